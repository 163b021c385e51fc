# Trick: maps a file of which each page is in RAM then, if one is named; otherwise 160 MB that can be shared.
import mmap
import signal
import sys
import time

if len(sys.argv) > 3:
    with open(sys.argv[3], "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
else:
    mapped = mmap.mmap(-1, 160_000_000)
for position in range(0, len(mapped), mmap.PAGESIZE):
    if len(sys.argv) > 3:
        mapped[position]
    else:
        mapped[position] = 1
print("ready", flush=True)
if len(sys.argv) > 3:
    time.sleep(2)
else:
    signal.pause()
