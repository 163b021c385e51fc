"""Where a command has come from: what the front end can show, and whether the command is all that its cell runs."""

from __future__ import annotations

import os
import re
import sys
import threading
from typing import Any, Literal

CELL_MAGIC, LINE_MAGIC = "timeout_shell", "run_timed"
_CELL = re.compile(rf"\s*%%{CELL_MAGIC}\b")
_LINE = re.compile(rf"(?:[ \t]*(?:#.*)?\n)*[ \t]*(\w+[ \t]*=[ \t]*)?%?{LINE_MAGIC}[ \t](?:.*\\\n)*.*\s*")
"""Comments, and one command, which may go on behind a backslash. Group 1 is the variable that takes the result."""

Kind = Literal["page", "terminal", "text"]


class FrontEnd:
    """Where the command that starts now has come from."""

    def __init__(self, ip: Any) -> None:
        self.has_kernel = hasattr(ip, "kernel")
        request: dict[str, Any] = {}
        on_main_thread = threading.current_thread() is threading.main_thread()
        if self.has_kernel:
            request = getattr(ip, "get_parent", dict)()  # a kernel that is not ipykernel's may have none
            self.kind: Kind = "page" if _replaces_displays(request) else "text"
            code = request.get("content", {}).get("code", "")
        else:
            # A thread that draws on the terminal would draw over the prompt.
            self.kind = "terminal" if on_main_thread and _has_terminal(ip) else "text"
            code = "".join(ip.history_manager.input_hist_raw[-1:])
        line = _LINE.fullmatch(code)
        # A thread may outlive its cell, and what is running now is then another one.
        self.is_whole_cell = on_main_thread and bool(line or _CELL.match(code))
        self.has_widgets = self.kind == "page" and on_main_thread and not _is_python(request)
        """Whether it may show widgets: it is no client in Python."""
        self.shows_result = on_main_thread and line is not None and line[1] is None
        """Whether the cell ends by showing the command's `Result`."""


def _replaces_displays(request: dict[str, Any]) -> bool:
    """Whether the front end handles ``update_display_data`` and ``clear_output``. No message says so.

    JupyterLab and Notebook do; VS Code does by its own word (vscode-python, pull request 10874), it was not run.
    Of the clients in Python, nbclient (nbconvert, papermill) does, and takes no input. Those that do not: jupyter
    console, Qt console and `execute_interactive`, which take input; ipyparallel and nbval, which store no history.
    """
    content = request.get("content", {})
    if _is_python(request):
        return content.get("allow_stdin") is False and content.get("store_history") is True
    return True


def _is_python(request: dict[str, Any]) -> bool:
    """Whether the request comes from a client in Python, whose message ids begin with the session's."""
    header = request.get("header", {})
    return bool(header.get("msg_id", "").startswith(header.get("session", "")))


def _has_terminal(ip: Any) -> bool:
    if os.environ.get("TERM", "dumb") == "dumb" or not sys.stdout.isatty():
        return False
    from IPython.terminal.interactiveshell import TerminalInteractiveShell

    return isinstance(ip, TerminalInteractiveShell)
