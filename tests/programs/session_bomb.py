# Trick: a fork bomb in which each process has a session of its own: 100 processes that ignore TERM and INT and replace
# each dead child, 2,000 forks in all.
import mmap
import os
import signal

AT_ONCE, IN_ALL = 100, 2000
counter = mmap.mmap(-1, 8)


def forks() -> int:
    return int.from_bytes(counter[:8], "little")


signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
while True:
    if forks() >= AT_ONCE:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()
        if forks() >= IN_ALL:
            continue
    number = forks() + 1
    counter[:8] = number.to_bytes(8, "little")
    if os.fork() == 0:
        os.setsid()
        if number == AT_ONCE:
            print("ready", flush=True)
