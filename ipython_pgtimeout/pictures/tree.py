"""%pgtree: sessions, process groups and processes as they are now, as boxes in boxes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil

from ..shared import processes
from ..shared.processes import HELPER
from ..shared.records import Process
from ..wording import visible
from .markup import escape, quote, style

_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "uninterruptible",
    "T": "stopped",
    "t": "traced",
    "Z": "zombie",
    "I": "idle",
}

_LONGEST = 90


class Tree:
    """What `%pgtree` returns: shown as nested boxes, or as text where there is no HTML."""

    def __init__(self, found: list[Process]) -> None:
        self.processes = sorted(found)

    @classmethod
    def of(cls, pid: int) -> Tree:
        """The process and all its descendants. Raises ProcessLookupError if it is not there."""
        root = processes.look_up(pid)
        if root is None:
            raise ProcessLookupError(pid)
        below = (processes.look_up(descendant) for descendant in processes.descendants(pid))
        return cls([root, *(process for process in below if process is not None)])

    @classmethod
    def of_all(cls) -> Tree:
        """Every process of this machine that can be seen from here."""
        every = (processes.look_up(pid) for pid in psutil.pids())
        return cls([process for process in every if process is not None])

    def _sessions(self) -> Iterator[tuple[int, dict[int, list[Process]]]]:
        sessions: dict[int, dict[int, list[Process]]] = {}
        for process in self.processes:
            sessions.setdefault(process.sid, {}).setdefault(process.pgid, []).append(process)
        yield from sorted(sessions.items())

    def __str__(self) -> str:
        lines = []
        for sid, groups in self._sessions():
            lines.append(f"session {sid}")
            for pgid, members in sorted(groups.items()):
                lines.append(f"  process group {pgid}")
                lines += [_line(process) for process in members]
        return "\n".join([*lines, "SL session leader, GL group leader"])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._html()}

    def _html(self) -> str:
        here = f"pgtree-{os.urandom(4).hex()}"  # a second tree in the same page has the same pids
        known = {process.pid for process in self.processes}
        boxes = []
        for sid, groups in self._sessions():
            inner = []
            for pgid, members in sorted(groups.items()):
                items = "".join(_item(process, here, known) for process in members)
                inner.append(f'<li class="g"><span>process group {pgid}</span><ul>{items}</ul></li>')
            boxes.append(f'<li class="s"><span>session {sid}</span><ul>{"".join(inner)}</ul></li>')
        legend = "<small>★ leads its session or process group · ← parent</small>"
        return f'<div class="pgtree">{style(__file__)}<div class="w"><ul>{"".join(boxes)}</ul></div>{legend}</div>'


def _line(process: Process) -> str:
    state = _STATES.get(process.state, process.state)
    place = f"{process.pid:>7} {_leads(process):2} {state:9} parent {process.ppid:<7}"
    return f"    {place} {visible(_title(process), _LONGEST)}"


def _item(process: Process, here: str, known: set[int]) -> str:
    state = _STATES.get(process.state, process.state)
    kinds = f"p {process.state.lower()}" if process.state in ("Z", "T", "t") else "p"
    leads = {"SL": "session leader", "GL": "group leader", "": ""}[_leads(process)]
    star = f' title="{leads}">★' if leads else ">"
    parent = f'<a href="#{here}-{process.ppid}">{process.ppid}</a>' if process.ppid in known else str(process.ppid)
    title = _title(process)
    tip = f' title="{quote(title)}"' if len(title) > _LONGEST else ""
    return (
        f'<li class="{kinds}" id="{here}-{process.pid}"><b>{process.pid}</b> <span{star}</span> <i>{escape(state)}</i> '
        f"<span>← {parent}</span> <span{tip}>{escape(title, _LONGEST)}</span></li>"
    )


def _title(process: Process) -> str:
    """The command line; before it the name, if the process has given itself another. Of our helpers the name alone."""
    if process.name.startswith(HELPER):
        return f"[{process.name}]"
    named = any(os.path.basename(word).startswith(process.name) for word in process.command.split())
    known = named or process.command.startswith("[")
    return process.command if known else f"[{process.name}] {process.command}"


def _leads(process: Process) -> str:
    return "SL" if process.pid == process.sid else "GL" if process.pid == process.pgid else ""
