# Trick: forks and exits for ever, each process in a new session: whoever looks for it finds where it has been.
# No look at the process table catches it, so it holds a lock on the file that is its second argument; and it ends
# when that file is removed.
import fcntl
import os
import sys

lock = os.open(sys.argv[2], os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
print("ready", flush=True)
while os.path.exists(sys.argv[2]):
    if os.fork():
        os._exit(0)
    os.setsid()
