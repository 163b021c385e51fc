"""The picture of a command: each process a bar, grouped by session and process group, the signals as marks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .lives import Life
from .markup import escape, visible

if TYPE_CHECKING:
    from .result import Result

MAX_ROWS = 500
_WIDTH = 40

# Neutral colours come from the page's own text colour, so that light and dark themes both work.
_STYLE = """<style>
.pgt table{border-collapse:collapse;font:12px/1.5 monospace;width:100%;max-width:70em}
.pgt td,.pgt th{text-align:left;padding:0 .6em;white-space:nowrap;border:0;background:none}
.pgt th{font-weight:600;padding-top:.5em;opacity:.75}
.pgt .c{max-width:28em;overflow:hidden;text-overflow:ellipsis}
.pgt .t{position:relative;width:45%;min-width:12em;border-left:1px solid #8884;border-right:1px solid #8884}
.pgt .t i{position:absolute;top:.35em;height:.8em;min-width:2px;background:#4c8bd8;border-radius:2px}
.pgt .t i.o{background:#b07cd8}
.pgt .t i.x{background:repeating-linear-gradient(90deg,#d9534f 0 4px,#d9534f88 4px 8px)}
.pgt .t b{position:absolute;top:0;height:1.5em;width:2px;background:#e09a2b}
.pgt .t b.k{background:#d9534f}
</style>"""


def html(result: Result) -> str:
    """The summary, and folded under it the timeline as a table that still reads where styles are stripped."""
    lives = result.processes
    ok = result.reason == "exited" and result.returncode == 0
    dot = f'<span style="color:{"#2e9e5b" if ok else "#d9534f"}">●</span>'
    if not lives:
        return f'<div class="pgt">{dot} {escape(result.summary(), 500)}</div>'
    rows = "".join(_html_rows(result, lives[:MAX_ROWS]))
    more = f"<p>and {len(lives) - MAX_ROWS} more</p>" if len(lives) > MAX_ROWS else ""
    return (
        f'<div class="pgt">{_STYLE}<details><summary>{dot} {escape(result.summary(), 500)}</summary>'
        f"<table><tbody>{rows}</tbody></table>{more}<p>{_legend(result)}</p></details></div>"
    )


def _html_rows(result: Result, lives: Sequence[Life]) -> Iterator[str]:
    total_s = _total(result)
    for (sid, pgid), members in _grouped(lives):
        yield f'<tr><th colspan="5">session {sid} · process group {pgid}</th></tr>'
        for life in members:
            end = total_s if life.end is None else life.end
            left, width = 100 * life.start / total_s, max(0.0, 100 * (end - life.start) / total_s)
            kind = "x" if life.end is None else "o" if life.adopted else ""
            marks = "".join(
                f'<b class="{"k" if name == "SIGKILL" else ""}" style="left:{100 * at_s / total_s:.1f}%"'
                f' title="{name} at {at_s:.2f} s"></b>'
                for at_s, name in _hits(result, life.pid)
            )
            yield (
                f'<tr><td>{life.pid}</td><td>← {life.ppid}</td><td class="c">{escape(life.command)}</td>'
                f"<td>{_times(life)}{' orphan' if life.adopted else ''}</td>"
                f'<td class="t"><i class="{kind}" style="left:{left:.1f}%;width:{width:.1f}%"></i>{marks}</td></tr>'
            )


def text(result: Result) -> str:
    """The same as plain text, for terminals and screen readers."""
    total_s = _total(result)
    lines = [result.summary()]
    for (sid, pgid), members in _grouped(result.processes[:MAX_ROWS]):
        lines.append(f"session {sid}, process group {pgid}")
        for life in members:
            end = total_s if life.end is None else life.end
            first = min(_WIDTH - 1, int(_WIDTH * life.start / total_s))
            last = max(first + 1, round(_WIDTH * end / total_s))
            bar = list(" " * first + ("~" if life.adopted else "=") * (last - first) + " " * (_WIDTH - last))
            for at_s, name in _hits(result, life.pid):
                bar[min(_WIDTH - 1, int(_WIDTH * at_s / total_s))] = "K" if name == "SIGKILL" else "!"
            adopted = " (orphan)" if life.adopted else ""
            lines.append(f"  {life.pid:>7} |{''.join(bar)}| {_times(life)} {visible(life.command, 60)}{adopted}")
    left_out = len(result.processes) - MAX_ROWS
    return "\n".join([*lines, f"and {left_out} more"] if left_out > 0 else lines)


def plot(result: Result) -> Any:
    """The same as a matplotlib figure's axes. Raises ImportError, with what to install, without matplotlib."""
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError("plot() needs matplotlib; pip install 'ipython-pgtimeout[plot]'") from None
    total_s = _total(result)
    groups = list(_grouped(result.processes[:MAX_ROWS]))
    rows = [life for _, members in groups for life in members]
    _, axes = pyplot.subplots(figsize=(9, 1 + 0.28 * len(rows)), layout="constrained")
    for row, life in enumerate(rows):
        end = total_s if life.end is None else life.end
        colour = "#d9534f" if life.end is None else "#b07cd8" if life.adopted else "#4c8bd8"
        axes.barh(row, max(end - life.start, total_s / 500), left=life.start, height=0.6, color=colour)
        for at_s, name in _hits(result, life.pid):
            axes.plot(at_s, row, "x" if name == "SIGKILL" else "v", color="#e09a2b", markeredgecolor="black")
    axes.set_yticks(range(len(rows)), [f"{visible(life.command, 30)}  {life.pid}" for life in rows], family="monospace")
    row = 0
    for (sid, pgid), members in groups:
        if row:
            axes.axhline(row - 0.5, color="#8888", linewidth=0.8)
        label = f"session {sid}, group {pgid}"
        axes.annotate(label, (1.01, row), xycoords=("axes fraction", "data"), fontsize=7, va="center")
        row += len(members)
    axes.invert_yaxis()
    axes.set_xlim(0, total_s)
    axes.set_xlabel("seconds")
    axes.set_title(visible(result.summary()), fontsize=9, loc="left")
    return axes


def _grouped(lives: Sequence[Life]) -> Iterator[tuple[tuple[int, int], list[Life]]]:
    """By session and process group, the earliest first."""
    seen: dict[tuple[int, int], float] = {}
    for life in lives:
        seen.setdefault((life.sid, life.pgid), life.start)
    sessions: dict[int, float] = {}
    for (sid, _), start in seen.items():
        sessions.setdefault(sid, start)

    def place(life: Life) -> tuple[float, int, float, int]:
        return sessions[life.sid], life.sid, seen[life.sid, life.pgid], life.pgid

    for key, members in itertools.groupby(sorted(lives, key=place), key=lambda life: (life.sid, life.pgid)):
        yield key, list(members)


def _hits(result: Result, pid: int) -> list[tuple[float, str]]:
    return [(sent.at_s, sent.signal) for sent in result.signals if pid in sent.pids]


def _times(life: Life) -> str:
    return f"{life.start:.1f}–{'' if life.end is None else f'{life.end:.1f}'} s"


def _total(result: Result) -> float:
    return max(result.duration, 0.001)


def _legend(result: Result) -> str:
    words = ["bars: lives in seconds"]
    if any(life.adopted for life in result.processes):
        words.append("violet: orphans, adopted by the guard")
    words += [f"{sent.signal} at {sent.at_s:.2f} s to {len(sent.pids)}" for sent in result.signals]
    return escape(" · ".join(words), 500)
