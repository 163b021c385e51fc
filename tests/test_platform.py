"""Where the package loads, and what its helper processes cost while no command runs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import ipython_pgtimeout
from benchmarks.kernels import kernel as kernel_by_name

from .kernels import Kernel
from .watching import wait_until

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads proc(5)")


def test_kernels_and_scripts_import_the_package_that_is_tested(kernel: Kernel) -> None:
    """For example the installed package. A folder of sources beside the tests must not come first."""
    expected = ipython_pgtimeout.__file__
    assert kernel.value("__import__('ipython_pgtimeout').__file__") == repr(expected)
    with kernel_by_name() as named:  # by the kernelspec python3, as nbclient, nbval and JupyterLab start it
        named.execute("import ipython_pgtimeout, sys")
        assert named.value("[sys.executable, ipython_pgtimeout.__file__]") == [sys.executable, expected]
    code = "import ipython_pgtimeout; print(ipython_pgtimeout.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == f"{expected}\n"


def test_loading_on_an_unsupported_system_is_one_clear_import_error() -> None:
    code = "import os; os.name = 'nt'; import ipython_pgtimeout"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ipython_pgtimeout needs a POSIX system")
    assert "'nt'" in last
    assert done.stderr.count("File ") == 2  # the import, and the line that raises: no deeper frame


def test_importing_the_engine_does_not_import_ipython() -> None:
    """Programs that use only run() must not pay for the import of IPython."""
    code = "import sys, ipython_pgtimeout; print([name for name in ('IPython', 'ipykernel') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"


def test_importing_the_package_starts_no_helper() -> None:
    code = "import ipython_pgtimeout, psutil; print(psutil.Process().children())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"


def _helpers(kernel: Kernel) -> list[psutil.Process]:
    assert wait_until(kernel.guards, 10)
    return [kernel.launcher(), *kernel.guards()]


@linux_only
def test_the_helpers_load_nothing_from_site_packages(kernel: Kernel) -> None:
    """The kernel maps compiled modules of its dependencies into memory, the helpers map none."""

    def mapped(pid: int) -> str:
        return Path(f"/proc/{pid}/maps").read_text()

    assert "site-packages" in mapped(kernel.pid), "the kernel must map what the helpers must not"
    for helper in _helpers(kernel):
        assert "site-packages" not in mapped(helper.pid)


def test_the_launcher_imports_little() -> None:
    """Its import loads few modules, under the options that the launcher is started with."""
    code = (
        "import sys, types; package = types.ModuleType('ipython_pgtimeout'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['ipython_pgtimeout'] = package; import ipython_pgtimeout.helper.launcher\n"
        "print('\\n'.join(sys.modules))"
    )
    package = str(Path(ipython_pgtimeout.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, package], capture_output=True, text=True, timeout=30, check=True
    )
    loaded = set(done.stdout.split())
    assert "ipython_pgtimeout.helper.guard" in loaded
    assert not loaded & {"IPython", "traitlets", "asyncio", "psutil", "ipython_pgtimeout.magics", "http"}
    # Its own modules are small. Those of the standard library are what a start costs.
    assert len({name for name in loaded if not name.startswith("ipython_pgtimeout")}) < 92


@pytest.mark.alone
@linux_only
def test_idle_helpers_do_nothing(kernel: Kernel) -> None:
    """They wait in poll(2): while no command runs, they have no context switches."""
    helpers = _helpers(kernel)

    def switches() -> list[int]:
        return [sum(helper.num_ctx_switches()) for helper in helpers]

    def quiet_for_a_while() -> bool:
        before, until = switches(), time.monotonic() + 0.7
        wait_until(lambda: switches() != before or time.monotonic() > until, 5)
        return switches() == before

    assert wait_until(quiet_for_a_while, 10)


@pytest.mark.alone
@linux_only
def test_idle_helpers_are_small(kernel: Kernel) -> None:
    """By proportional set size: pages that launcher and guard share count once."""
    total = 0
    for helper in _helpers(kernel):
        lines = Path(f"/proc/{helper.pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    assert total < 25_000, f"{total} KiB"


@linux_only
def test_a_command_gets_three_descriptors_and_a_session_of_its_own(kernel: Kernel) -> None:
    reply = kernel.run(
        "%%timeout_shell 9\nls /proc/self/fd; ps -o pid=,pgid=,sid= -p $BASHPID; grep Sig /proc/self/status"
    )
    descriptors = reply.stdout.split()[:4]
    assert descriptors[:3] == ["0", "1", "2"]
    assert descriptors[3] == "3"  # ls itself reads the directory through it
    pid, pgid, sid = reply.stdout.split()[4:7]
    assert pid == pgid == sid
    masks = dict(line.split(":\t") for line in reply.stdout.splitlines() if line.startswith("Sig"))
    assert masks["SigBlk"].strip("0") == masks["SigIgn"].strip("0") == ""
