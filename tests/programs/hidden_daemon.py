# Trick: a daemon with no environment and no open file. Nothing in it shows which command started it.
import os
import signal
import sys

if sys.argv[-1] == "daemon":
    os.closerange(0, 1024)
    while True:
        signal.pause()

reading, writing = os.pipe()
os.set_inheritable(writing, True)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.execve(sys.executable, [sys.executable, "-S", "-E", *sys.argv, "daemon"], {})
os.close(writing)
os.read(reading, 1)  # end of file: the daemon has closed its descriptors
print("ready", flush=True)
