"""A command inherits the kernel's current attributes, but not its signal dispositions and open descriptors."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from typing import Any

import psutil

from .kernels import LOAD, Kernel
from .watching import wait_until


def test_no_signal_is_ignored_caught_or_blocked(kernel: Kernel) -> None:
    """As in a login shell, although Python ignores SIGPIPE and ipykernel ignores SIGINT between cells."""
    status = kernel.run("%%timeout_shell 10\nexec cat /proc/self/status").stdout
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    assert {masks[name] for name in ("SigPnd", "SigBlk", "SigIgn", "SigCgt")} == {"0" * 16}


def test_signals_that_the_kernel_ignores_or_blocks_reach_the_command() -> None:
    ignore_and_block = """
import signal
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGRTMIN):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGCHLD])
"""
    with Kernel(ignore_and_block, LOAD) as kernel:
        test_no_signal_is_ignored_caught_or_blocked(kernel)
        reply = kernel.execute("%%timeout_shell 0.5\nsleep 1000; :")
        assert reply.evalue.startswith("timed out after 0.5 s: SIGTERM to 2 processes; all are gone"), reply


def test_a_command_has_three_descriptors_and_leads_its_session(kernel: Kernel) -> None:
    kernel.run("import os; os.set_inheritable(held := os.open('/dev/null', os.O_RDONLY), True)")
    reply = kernel.submit("%%timeout_shell 20\necho pid $$ ready; exec sleep 1000")
    kernel.wait_for_text(reply, "ready")
    pid = int(reply.stdout.split()[1])
    try:
        sleep = psutil.Process(pid)
        assert wait_until(lambda: sleep.name() == "sleep", 5)
        # Until it sleeps, the dynamic linker may have a library open.
        assert wait_until(lambda: sleep.status() == psutil.STATUS_SLEEPING, 5)
        fds = Path(f"/proc/{pid}/fd")
        assert sorted(fd.name for fd in fds.iterdir()) == ["0", "1", "2"]
        assert (fds / "0").readlink() == Path(os.devnull)
        assert os.getsid(pid) == os.getpgid(pid) == pid
    finally:
        kernel.interrupt()
        kernel.wait(reply)
    kernel.run("os.close(held)")


LOOK = """
import os, resource
umask = os.umask(0)
os.umask(umask)
found = {
    "directory": os.getcwd(),
    "environment": os.environ.get("SET_IN_THE_KERNEL"),
    "umask": umask,
    "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    "affinity": sorted(os.sched_getaffinity(0)),
    "limits": {
        name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")
    },
}
print(found)
"""

CHANGE_WHAT_CAN_BE_RESTORED = """
import os, resource
os.chdir({directory!r})
os.environ["SET_IN_THE_KERNEL"] = "since it was started"
os.umask(0o123)
os.sched_setaffinity(0, {{max(os.sched_getaffinity(0))}})
for limit, soft in {{resource.RLIMIT_NOFILE: 321, resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: 12345}}.items():
    resource.setrlimit(limit, (soft, resource.getrlimit(limit)[1]))
"""

CHANGE_WHAT_CANNOT_BE_RESTORED = """
import os, resource
os.nice(7)
for limit, hard in {
    resource.RLIMIT_NOFILE: 432, resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: 23456, resource.RLIMIT_STACK: 1 << 23,
    resource.RLIMIT_FSIZE: 1 << 30, resource.RLIMIT_AS: 1 << 40, resource.RLIMIT_MEMLOCK: 1 << 14,
}.items():
    resource.setrlimit(limit, (hard // 2, hard))
"""


def attributes_of_kernel(kernel: Kernel) -> dict[str, Any]:
    """The kernel's attributes now."""
    found: dict[str, Any] = ast.literal_eval(kernel.run("exec(look)").stdout)
    return found


def attributes_of_command(kernel: Kernel) -> dict[str, Any]:
    """The attributes of a command that the kernel starts now."""
    script = f'%%timeout_shell 20 --env look\n{sys.executable} -S -E -c "$look"'
    found: dict[str, Any] = ast.literal_eval(kernel.run(script).stdout)
    return found


def test_a_command_inherits_the_kernels_current_attributes(tmp_path: Path) -> None:
    with Kernel(LOAD, f"look = {LOOK!r}") as kernel:
        at_first = attributes_of_kernel(kernel)
        assert attributes_of_command(kernel) == at_first
        kernel.run(CHANGE_WHAT_CAN_BE_RESTORED.format(directory=str(tmp_path)))
        changed = attributes_of_kernel(kernel)
        assert changed["directory"] == str(tmp_path)
        assert changed["limits"] != at_first["limits"]
        assert attributes_of_command(kernel) == changed
        kernel.run("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (322, 1000)); os.umask(0o77)")
        assert attributes_of_command(kernel) == attributes_of_kernel(kernel) != changed


def test_a_command_inherits_attributes_that_cannot_be_restored(tmp_path: Path) -> None:
    """Only a privileged process can restore hard limits and niceness. The helpers keep working without that."""
    with Kernel(LOAD, f"look = {LOOK!r}") as kernel:
        kernel.run(CHANGE_WHAT_CANNOT_BE_RESTORED)
        changed = attributes_of_kernel(kernel)
        assert changed["niceness"] == 7
        assert changed["limits"]["RLIMIT_NOFILE"] == (216, 432)
        assert attributes_of_command(kernel) == changed
        assert kernel.execute("%%timeout_shell 0.5\nsleep 1000; :").ename == "CommandTimeout"
        assert attributes_of_command(kernel) == changed


def test_a_command_runs_in_a_removed_directory(kernel: Kernel, tmp_path: Path) -> None:
    """The kernel's directory is passed as an open descriptor, so it needs no path any more."""
    gone = tmp_path / "gone"
    gone.mkdir()
    back = kernel.value("__import__('os').getcwd()")
    kernel.run(f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})")
    try:
        assert kernel.run("%%timeout_shell 10\nstat --format %h .").stdout == "0\n"
    finally:
        kernel.run(f"os.chdir({back})")
