# Trick: a textbook daemon: fork, setsid, fork.
import os
import signal

if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
print("ready", flush=True)
while True:
    signal.pause()
