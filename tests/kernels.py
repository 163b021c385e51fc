"""A real IPython kernel, driven over jupyter_client as a notebook drives it. No claims about the package here."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from jupyter_client.manager import KernelManager

from .watching import wait_until

LOAD = "%load_ext ipython_pgtimeout"
RUN = 'get_ipython().run_line_magic("run_timed", {line!r})'
"""An expression that runs a line with its options and gives its result."""
START_S = 40.0
_NO_HISTORY = "--HistoryManager.enabled=False"
"""IPython's history has a thread that opens and closes files after a cell: tests that count descriptors see them."""


@dataclass
class Reply:
    """What came back from one cell, so far. ``status`` is None until the cell is over, then ``ok``, ``error``
    or ``aborted``; ``result`` is the text of an execute_result; ``messages`` counts all on the iopub, ``updates`` the
    displays that replace an earlier one, ``clears`` the requests to clear the cell's output before the next. What has
    been cleared is not in ``stdout`` and ``stderr`` any more; ``displayed`` has everything."""

    message_id: str
    stdout: str = ""
    stderr: str = ""
    ename: str = ""
    evalue: str = ""
    traceback: str = ""
    result: str = ""
    status: str | None = None
    idle: bool = False
    messages: int = 0
    displayed: list[dict[str, Any]] = field(default_factory=list)
    display_ids: list[str] = field(default_factory=list)
    updates: int = 0
    clears: int = 0
    is_to_clear: bool = False

    @property
    def over(self) -> bool:
        return self.idle and self.status is not None

    @property
    def text(self) -> str:
        """All text that a user would see."""
        return self.stdout + self.stderr + self.result + self.traceback


class Kernel:
    """``python -m ipykernel`` of the running interpreter, with a private IPYTHONDIR. One thread uses it at a time."""

    def __init__(
        self,
        *setup: str,
        environment: dict[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        started_by: Sequence[str] = (),
    ) -> None:
        """Start the kernel, by the command ``started_by`` if given, and run the cells ``setup``, which must succeed."""
        self._directory = tempfile.TemporaryDirectory(prefix="pgtimeout-test-")
        self._replies: dict[str, Reply] = {}
        self._showing: dict[str, Reply] = {}
        connection_file = str(Path(self._directory.name, "kernel.json"))
        self.manager = KernelManager(connection_file=connection_file, transport="ipc")
        spec = self.manager.kernel_spec
        assert spec is not None
        spec.argv = [*started_by, sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", _NO_HISTORY]
        env = {**os.environ, "IPYTHONDIR": self._directory.name, **(environment or {})}
        self.client: Any = None
        try:
            self.manager.start_kernel(env=env, cwd=os.fspath(cwd or self._directory.name))
            self._connect()
            for cell in setup:
                self.run(cell)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.allow_stdin = False  # like nbclient: the front end replaces displays
        self.client.wait_for_ready(timeout=START_S)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the kernel at once, if it still runs."""
        if self.client is not None:
            self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self.manager.context.destroy(linger=0)
        self._directory.cleanup()

    @property
    def pid(self) -> int:
        pid = getattr(self.manager.provisioner, "pid", None)
        assert isinstance(pid, int)
        return pid

    # -- cells --------------------------------------------------------------------------------------------

    def submit(self, code: str) -> Reply:
        """Send a cell and don't wait. It runs even if the cell before it fails."""
        reply = Reply(self.client.execute(code, stop_on_error=False))
        self._replies[reply.message_id] = reply
        return reply

    def execute(self, code: str, timeout_s: float = 30.0) -> Reply:
        """Run a cell until it is over, with any status."""
        return self.wait(self.submit(code), timeout_s)

    def run(self, code: str, timeout_s: float = 30.0) -> Reply:
        """Run a cell that must succeed."""
        reply = self.execute(code, timeout_s)
        assert reply.status == "ok", reply
        return reply

    def value(self, expression: str, timeout_s: float = 30.0) -> str:
        """The repr of an expression in the kernel."""
        return self.run(expression, timeout_s).result

    def wait(self, reply: Reply, timeout_s: float = 30.0) -> Reply:
        """Wait until the cell is over. TimeoutError shows what has arrived by then."""
        self.pump_until(lambda: reply.over, timeout_s, reply, "to be over")
        del self._replies[reply.message_id]
        return reply

    def wait_for_text(self, reply: Reply, marker: str, timeout_s: float = 20.0, times: int = 1) -> None:
        """Wait until the cell has shown ``marker``, ``times`` times."""
        self.pump_until(lambda: reply.text.count(marker) >= times or reply.over, timeout_s, reply, repr(marker))
        assert reply.text.count(marker) >= times, f"the cell is over and has not shown {marker!r}: {reply}"

    def pump_until(self, condition: Any, timeout_s: float, reply: Reply, what: str) -> None:
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(f"waited {timeout_s} s for {what}: {reply}")
            with contextlib.suppress(queue.Empty):
                self._record(self.client.get_iopub_msg(timeout=0.02))
            while self.client.shell_channel.msg_ready():
                message = self.client.get_shell_msg(timeout=1)
                answered = self._replies.get(message["parent_header"].get("msg_id"))
                if answered is not None:
                    answered.status = message["content"]["status"]

    def _record(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        reply = self._replies.get(message["parent_header"].get("msg_id", ""))
        if kind == "update_display_data":  # it belongs to the cell that has shown this display, whichever runs now
            reply = self._showing.get(content["transient"]["display_id"])
        if reply is None:
            return
        reply.messages += 1
        if kind == "clear_output":
            assert content["wait"]
            reply.clears += 1
            reply.is_to_clear = True
        elif reply.is_to_clear and kind in ("stream", "display_data", "execute_result", "error"):
            reply.is_to_clear = False
            reply.stdout = reply.stderr = ""
        if kind == "stream":
            setattr(reply, content["name"], getattr(reply, content["name"]) + content["text"])
        elif kind == "error":
            reply.ename, reply.evalue = content["ename"], content["evalue"]
            reply.traceback = "\n".join(content["traceback"])
        elif kind == "execute_result":
            reply.result = content["data"]["text/plain"]
        elif kind in ("display_data", "update_display_data"):
            reply.displayed.append(content["data"])
            reply.display_ids.append(content["transient"].get("display_id", ""))
            self._showing[reply.display_ids[-1]] = reply
            reply.updates += kind == "update_display_data"
        elif kind == "status" and content["execution_state"] == "idle":
            reply.idle = True

    # -- endings ------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Interrupt the kernel, as the stop button does."""
        self.manager.interrupt_kernel()

    def kill9(self) -> None:
        """SIGKILL to the kernel's process alone, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        assert wait_until(lambda: not self.manager.is_alive(), 10), "SIGKILL has not ended the kernel"

    def restart(self, *, now: bool) -> None:
        """Restart the kernel, without the extension. Unless ``now`` is true, it is asked to shut down first."""
        self.client.stop_channels()
        self._replies.clear()
        self.manager.restart_kernel(now=now)
        self._connect()

    def shutdown(self, *, now: bool = False) -> None:
        self.manager.shutdown_kernel(now=now)

    # -- helper processes ---------------------------------------------------------------------------------

    def launcher(self) -> psutil.Process:
        """The launcher process of this kernel; there must be exactly one."""
        (found,) = named_children(self.pid, "pgtimeout")
        return found

    def guards(self) -> list[psutil.Process]:
        """Its guards, idle ones included. There are none while the launcher is still starting."""
        return named_children(self.launcher().pid, "pgtimeout-guard") if named_children(self.pid, "pgtimeout") else []


def named_children(pid: int, name: str) -> list[psutil.Process]:
    """The children of ``pid`` that are called ``name``, without zombies."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == name and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found
