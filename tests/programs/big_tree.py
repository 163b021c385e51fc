# Trick: a tree of 1,000 processes, four levels deep, every other one in a session of its own.
import os
import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # otherwise SIGINT prints 1,000 tracebacks
reading, writing = os.pipe()
level = 0
while level < 3:
    for number in range(9 if level == 0 else 10):
        if os.fork() == 0:
            level += 1
            if number % 2:
                os.setsid()
            os.write(writing, b"+")
            break
    else:
        break
if level == 0:
    there = 0
    while there < 999:
        there += len(os.read(reading, 999))
    print("ready", flush=True)
while True:
    signal.pause()
