# Trick: takes memory, so many megabytes per second up to so many, and keeps it. With a third argument it ignores TERM.
import signal
import sys
import time

rate, most = map(int, sys.argv[3:5])
if len(sys.argv) > 5:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
CHUNK_MB = 5
kept: list[bytes] = []
started = time.monotonic()
print("ready", flush=True)
while CHUNK_MB * len(kept) < most:
    kept.append(b"x" * (CHUNK_MB * 1_000_000))
    early_s = started + CHUNK_MB * len(kept) / rate - time.monotonic()
    if early_s > 0:
        time.sleep(early_s)
print("all", flush=True)
signal.pause()
