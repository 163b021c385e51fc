"""The picture of a command: each process a bar, grouped by session and process group, the signals as marks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .lives import Life
from .markup import dot, escape, visible

if TYPE_CHECKING:
    from .result import Result

MAX_ROWS = 500
_WIDTH = 40

# Neutral colours come from the page's own text colour, so that light and dark themes both work. The class thrice:
# what JupyterLab says about every table is said more loudly than once.
_STYLE = """<style>
.pgt{font-size:13px;line-height:1.5}
.pgt summary{cursor:pointer}
.pgt .w{max-height:36em;overflow:auto;margin:.5em 0}
.pgt.pgt.pgt table{table-layout:fixed;width:100%;min-width:46em;max-width:76em;margin:0;border-collapse:collapse;
font:12px var(--jp-code-font-family,monospace)}
.pgt.pgt.pgt tr{background:none}
.pgt.pgt.pgt :is(th,td){padding:0 .5em;border:0;text-align:left;line-height:1.7;white-space:nowrap;overflow:hidden;
text-overflow:ellipsis}
.pgt.pgt.pgt th{font-weight:400;opacity:.75}
.pgt.pgt.pgt .n th{width:4.5em}
.pgt.pgt.pgt .n th+th+th{width:auto}
.pgt.pgt.pgt .n th+th+th+th{width:8em}
.pgt.pgt.pgt .n th+th+th+th+th{width:36%;padding:0}
.pgt .n span{float:right}
.pgt.pgt.pgt .g th{padding-top:.4em;font-weight:600}
.pgt.pgt.pgt .t{position:relative;overflow:visible;
background:repeating-linear-gradient(90deg,#8885 0 1px,#0000 1px 24.9%);border-right:1px solid #8885}
.pgt i{background:#4c8bd8;border-radius:2px}
.pgt i.o{background:#b07cd8}
.pgt i.x{background:repeating-linear-gradient(90deg,#d9534f 0 4px,#d9534f88 4px 8px)}
.pgt b{background:#e09a2b;width:2px}
.pgt b.k{background:#d9534f;width:3px}
.pgt .t i{position:absolute;top:.4em;height:.9em;min-width:2px}
.pgt .t b{position:absolute;top:0;height:100%;margin-left:-2px}
.pgt.pgt p{margin:.3em .5em;font-size:12px}
.pgt p span{white-space:nowrap;margin-right:1em}
.pgt p :is(i,b){display:inline-block;height:.9em;vertical-align:-.1em;margin-right:.5em}
.pgt p i{width:1.8em}
.pgt p b{height:1.2em}
@media print{.pgt .w{max-height:none}}
</style>"""
_FITS = 40


def html(result: Result) -> str:
    """The summary, and folded under it the timeline as a table that still reads where styles are stripped."""
    lives = result.processes
    summary = f"{dot(result.ok)} {escape(result.summary(), 500)}"
    if not lives:
        return f'<div class="pgt">{summary}</div>'
    head = (
        '<tr class="n"><th>process</th><th>parent</th><th>command</th><th>from–to</th>'
        f"<th>0 s<span>{result.duration:.1f} s</span></th></tr>"
    )
    rows = "".join(_html_rows(result, lives[:MAX_ROWS]))
    more = f"<p>and {len(lives) - MAX_ROWS} more</p>" if len(lives) > MAX_ROWS else ""
    return (
        f'<div class="pgt">{_STYLE}<details><summary>{summary}</summary>'
        f'<div class="w"><table><tbody>{head}{rows}</tbody></table></div>{more}<p>{_legend(result)}</p></details></div>'
    )


def _html_rows(result: Result, lives: Sequence[Life]) -> Iterator[str]:
    total_s = _total(result)
    for (sid, pgid), members in _grouped(lives):
        yield f'<tr class="g"><th colspan="5">session {sid} · process group {pgid}</th></tr>'
        for life in members:
            end = total_s if life.end is None else life.end
            left, width = 100 * life.start / total_s, max(0.0, 100 * (end - life.start) / total_s)
            kind = ' class="x"' if life.end is None else ' class="o"' if life.adopted else ""
            marks = "".join(
                f'<b{_mark(name)} style="left:{100 * at_s / total_s:.1f}%" title="{name} at {at_s:.2f} s"></b>'
                for at_s, name in _hits(result, life.pid)
            )
            title = f' title="{escape(life.command)}"' if len(life.command) > _FITS else ""
            yield (
                f"<tr><td>{life.pid}</td><td>{life.ppid}</td><td{title}>{escape(life.command)}</td>"
                f'<td>{_times(life)}</td><td class="t">'
                f'<i{kind} style="left:{left:.1f}%;width:{width:.1f}%"></i>{marks}</td></tr>'
            )


def _mark(name: str) -> str:
    return ' class="k"' if name == "SIGKILL" else ""


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
    """By session and process group, the earliest first; in each group its leader, then as they started."""
    seen: dict[tuple[int, int], float] = {}
    for life in lives:
        seen.setdefault((life.sid, life.pgid), life.start)
    sessions: dict[int, float] = {}
    for (sid, _), start in seen.items():
        sessions.setdefault(sid, start)

    def place(life: Life) -> tuple[float, ...]:
        # Starts are known to the clock tick only: who started about together is in the order of the pids.
        group = sessions[life.sid], life.sid, seen[life.sid, life.pgid], life.pgid
        return *group, life.pid != life.pgid, round(life.start, 1), life.pid

    for key, members in itertools.groupby(sorted(lives, key=place), key=lambda life: (life.sid, life.pgid)):
        yield key, list(members)


def _hits(result: Result, pid: int) -> list[tuple[float, str]]:
    return [(sent.at_s, sent.signal) for sent in result.signals if pid in sent.pids]


def _times(life: Life) -> str:
    return f"{life.start:.1f}–{'' if life.end is None else f'{life.end:.1f}'} s"


def _total(result: Result) -> float:
    return max(result.duration, 0.001)


def _legend(result: Result) -> str:
    kinds = [
        ("", "a process", any(life.end is not None and not life.adopted for life in result.processes)),
        (' class="o"', "an orphan, adopted by the guard", any(life.adopted for life in result.processes)),
        (' class="x"', "still there", any(life.end is None for life in result.processes)),
    ]
    bars = [f"<span><i{kind}></i>{words}</span>" for kind, words, there in kinds if there]
    marks = [
        f"<span><b{_mark(sent.signal)}></b>{escape(sent.signal)} at {sent.at_s:.2f} s to {len(sent.pids)}</span>"
        for sent in result.signals
    ]
    return " ".join(bars + marks)
