# Trick: handles every signal that can be handled, prints its name and goes on.
import os
import signal


def tell(number: int, frame: object) -> None:
    os.write(1, f"got {signal.Signals(number).name}\n".encode())


for each in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(each, tell)
os.write(1, b"ready\n")
while True:
    signal.pause()
