"""An interrupt that comes after Python has checked for signals and before poll(2) begins to wait.

The time between these two is short. To make it long, a preloaded library sleeps before each poll(2).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SLOW_POLL = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <time.h>

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");
    struct timespec left = {0, 200000000};
    while (count > 1 && nanosleep(&left, &left) && errno == EINTR)
        ;
    return real(fds, count, timeout);
}

int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, unsigned long size)
{
    return poll(fds, count, timeout);
}
"""

INTERRUPTED_AT_ONCE = """
import os
from ipython_pgtimeout import run
del os.environ["LD_PRELOAD"]
try:
    print("not interrupted:", run(f"kill -INT {os.getpid()}; sleep 10", 20))
except KeyboardInterrupt as interrupt:
    print(interrupt.result.reason, interrupt.result.duration < 5)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_an_interrupt_just_before_the_wait_is_not_lost(tmp_path: Path) -> None:
    source, library = tmp_path / "poll.c", tmp_path / "poll.so"
    source.write_text(SLOW_POLL)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT_ONCE],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert done.stdout == "interrupted True\n", done
