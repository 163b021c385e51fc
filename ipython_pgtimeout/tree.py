"""%pgtree: sessions, process groups and processes as they are now, as boxes in boxes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil

from . import processes
from .markup import escape, visible
from .processes import Process

_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "uninterruptible",
    "T": "stopped",
    "t": "traced",
    "Z": "zombie",
    "I": "idle",
}

# Neutral colours come from the page's own text colour, so that light and dark themes both work.
_STYLE = """<style>
.pgtree ul{list-style:none;margin:.3em 0;padding:0}
.pgtree li{margin:.3em 0;font:12px/1.6 monospace}
.pgtree .s,.pgtree .g{border:1px solid #8888;border-radius:6px;padding:.2em .7em}
.pgtree .s{background:#8881}.pgtree .g{background:#8881}
.pgtree .p{margin:0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.pgtree .p:target{outline:2px solid #4c8bd8}
.pgtree .z b,.pgtree .z a{color:#d9534f}.pgtree .t b{color:#e09a2b}
.pgtree .l::before{content:"★ ";color:#e09a2b}
.pgtree small{opacity:.7}
</style>"""


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
                inner.append(f'<li class="g">process group {pgid}<ul>{items}</ul></li>')
            boxes.append(f'<li class="s">session {sid}<ul>{"".join(inner)}</ul></li>')
        legend = "<small>★ leader of its session or process group · parents are links</small>"
        return f'<div class="pgtree">{_STYLE}<ul>{"".join(boxes)}</ul>{legend}</div>'


def _line(process: Process) -> str:
    state = _STATES.get(process.state, process.state)
    place = f"{process.pid:>7} {_leads(process):2} {state:9} parent {process.ppid:<7}"
    return f"    {place} {visible(_title(process), 90)}"


def _item(process: Process, here: str, known: set[int]) -> str:
    state = _STATES.get(process.state, process.state)
    kinds = ["p"]
    if process.state in ("Z", "T", "t"):
        kinds.append(process.state.lower())
    leads = {"SL": "session leader", "GL": "group leader", "": ""}[_leads(process)]
    if leads:
        kinds.append("l")
    parent = f'<a href="#{here}-{process.ppid}">{process.ppid}</a>' if process.ppid in known else str(process.ppid)
    facts = f"{escape(state)}{', ' + leads if leads else ''}, parent {parent}"
    return (
        f'<li class="{" ".join(kinds)}" id="{here}-{process.pid}"><b>{process.pid}</b> {escape(_title(process))} '
        f"<small>({facts})</small></li>"
    )


def _title(process: Process) -> str:
    """The command line, after the process's name where it has given itself another, as our helpers do."""
    named = any(os.path.basename(word).startswith(process.name) for word in process.command.split())
    known = named or process.command.startswith("[")
    return process.command if known else f"[{process.name}] {process.command}"


def _leads(process: Process) -> str:
    return "SL" if process.pid == process.sid else "GL" if process.pid == process.pgid else ""
