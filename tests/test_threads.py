"""Python handles SIGINT on the main thread only. On other threads the deadline holds as well."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from .kernels import Kernel
from .watching import wait_until, wait_until_gone

needs_subshells = pytest.mark.skipif(
    int(version("ipykernel").split(".")[0]) < 7, reason="subshells came with ipykernel 7"
)

IN_THREAD = """
import threading, ipython_pgtimeout
results = {}
def work(name, script, timeout):
    results[name] = ipython_pgtimeout.run(script, timeout)
"""


def test_the_deadline_holds_in_a_thread(kernel: Kernel, mark: str) -> None:
    kernel.run(IN_THREAD)
    started = time.monotonic()
    kernel.run(
        f"thread = threading.Thread(target=work, args=('a', 'MARK={mark} sleep 60; true', 0.5))\n"
        "thread.start(); thread.join(20); assert not thread.is_alive()"
    )
    assert time.monotonic() - started < 10
    assert kernel.value("results['a'].reason") == "'timeout'"
    assert not wait_until_gone(mark, 1)


def test_two_commands_at_once_have_each_their_own_output_and_end(kernel: Kernel, mark: str) -> None:
    kernel.run(IN_THREAD)
    kernel.run(
        "threads = [threading.Thread(target=work, args=args) for args in (\n"
        f"    ('quick', 'for i in $(seq 200); do echo quick; done; exit 3', 20),\n"
        f"    ('slow', 'echo slow; MARK={mark} sleep 60; true', 1),\n"
        ")]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join(20)"
    )
    assert kernel.value("results['quick'].returncode, results['quick'].stdout == 'quick\\n' * 200") == "(3, True)"
    assert kernel.value("results['slow'].reason, results['slow'].stdout") == "('timeout', 'slow\\n')"
    assert kernel.value("results['quick'].duration < results['slow'].duration") == "True"
    assert not wait_until_gone(mark, 1)


def test_a_thread_and_a_cell_can_run_commands_at_once(kernel: Kernel) -> None:
    kernel.run(IN_THREAD)
    kernel.run("thread = threading.Thread(target=work, args=('t', 'sleep 0.5; echo thread', 20)); thread.start()")
    assert kernel.run("%%timeout_shell 20\necho cell").stdout == "cell\n"
    kernel.run("thread.join(20)")
    assert kernel.value("results['t'].stdout") == "'thread\\n'"


def test_an_interrupt_ends_the_cell_and_not_the_command_of_a_thread(kernel: Kernel, mark: str) -> None:
    kernel.run(IN_THREAD)
    kernel.run("thread = threading.Thread(target=work, args=('t', 'sleep 2; echo on', 20)); thread.start()")
    cell = kernel.submit(f"%%timeout_shell 30\nexport MARK={mark}\necho ready; sleep 60; true")
    kernel.wait_for_text(cell, "ready")
    kernel.interrupt()
    kernel.wait(cell)
    assert cell.ename == "KeyboardInterrupt"
    assert not wait_until_gone(mark, 1)
    kernel.run("thread.join(20)")
    assert kernel.value("results['t'].stdout, results['t'].reason") == "('on\\n', 'exited')"


def test_many_threads_can_run_commands_at_once(kernel: Kernel) -> None:
    kernel.run(IN_THREAD)
    kernel.run(
        "threads = [threading.Thread(target=work, args=(n, f'echo {n}; exit {n}', 30)) for n in range(24)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join(30)"
    )
    expression = "all(results[n].stdout == f'{n}\\n' and results[n].returncode == n for n in range(24))"
    assert kernel.value(expression) == "True"
    assert wait_until(lambda: 1 <= len(kernel.guards()) <= 4, 5), "only a few idle guards should be left"


# -- subshells ------------------------------------------------------------------------------------------------


@pytest.fixture
def subshell(kernel: Kernel) -> Iterator[str]:
    """A thread of the kernel that runs cells beside the main one's."""
    identity = _request(kernel, "create_subshell_request", {})["subshell_id"]
    yield identity
    _request(kernel, "delete_subshell_request", {"subshell_id": identity})


def _request(kernel: Kernel, kind: str, content: dict[str, Any]) -> dict[str, Any]:
    message = kernel.client.session.msg(kind, content)
    kernel.client.control_channel.send(message)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with contextlib.suppress(queue.Empty):
            reply = kernel.client.get_control_msg(timeout=0.5)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                answer: dict[str, Any] = reply["content"]
                assert answer["status"] == "ok"
                return answer
    raise TimeoutError(f"no reply to {kind}")


def _submit(kernel: Kernel, subshell: str, code: str) -> str:
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": False}
    message = kernel.client.session.msg("execute_request", content)
    message["header"]["subshell_id"] = subshell
    kernel.client.shell_channel.send(message)
    identity: str = message["header"]["msg_id"]
    return identity


def _wait(kernel: Kernel, identity: str) -> tuple[str, str]:
    """The status of the cell and what it has shown."""
    status, shown, idle = "", "", False
    until = time.monotonic() + 30
    while not (status and idle):
        assert time.monotonic() < until, (status, shown)
        with contextlib.suppress(queue.Empty):
            while True:
                message = kernel.client.get_iopub_msg(timeout=0.02)
                if message["parent_header"].get("msg_id") == identity:
                    content = message["content"]
                    idle = idle or content.get("execution_state") == "idle"
                    shown += content.get("text", "") + content.get("evalue", "")
        with contextlib.suppress(queue.Empty):
            reply = kernel.client.get_shell_msg(timeout=0.02)
            if reply["parent_header"].get("msg_id") == identity:
                status = reply["content"]["status"]
    return status, shown


@needs_subshells
def test_the_deadline_holds_in_a_subshell(kernel: Kernel, subshell: str, mark: str) -> None:
    cell = _submit(kernel, subshell, f"%%timeout_shell 2\nexport MARK={mark}\necho out; sleep 60; true")
    status, shown = _wait(kernel, cell)
    assert status == "error"
    assert shown.startswith("out\n")
    assert "timed out after 2 s" in shown
    assert not wait_until_gone(mark, 1)


@needs_subshells
def test_a_subshell_and_the_main_shell_can_run_commands_at_once(kernel: Kernel, subshell: str, tmp_path: Path) -> None:
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo beside"
    beside = _submit(kernel, subshell, f"%%timeout_shell 20\n{script}")
    assert kernel.run("%%timeout_shell 20\necho main").stdout == "main\n"
    (tmp_path / "go").touch()
    status, shown = _wait(kernel, beside)
    assert (status, shown) == ("ok", "beside\n")
