# Trick: a textbook daemon that writes to stdout for ever. The file that is its second argument grows by one byte for
# every 64 KiB written.
import os
import sys
import time

progress = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
if os.fork():
    os._exit(0)
os.setsid()
os.write(1, b"ready\n")
while True:
    os.write(1, b"." * 0xFFFF + b"\n")
    os.write(progress, b"+")
    time.sleep(0.001)
