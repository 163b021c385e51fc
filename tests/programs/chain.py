# Trick: forks and exits for ever, each process in a new session, deaf to TERM and INT: who looks finds where it was.
# No look at the process table catches it, so it holds a lock on the file that is its second argument; and it ends
# when that file is removed.
import fcntl
import os
import signal
import sys

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
lock = os.open(sys.argv[2], os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
print("ready", flush=True)
while os.path.exists(sys.argv[2]):
    if os.fork():
        os._exit(0)
    os.setsid()
