"""The picture of a command: each process a bar, grouped by session and process group, the signals as marks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from ..shared.records import Life, MemorySample, Signalled
from ..wording import count, visible
from . import memory
from .markup import escape, quote, style, verdict

MAX_ROWS = 500
_WIDTH, _HTML_WIDTH = 40, 20
_UNCERTAIN_S = 0.05
_FITS = 24
"""How long a command line can be and still be seen whole in its column."""


def draw_html(
    summary: str,
    ok: bool,
    lives: Sequence[Life],
    unseen: int,
    signals: Sequence[Signalled],
    samples: Sequence[MemorySample],
    duration_s: float,
) -> str:
    """The summary, and folded under it the timeline as a table that still reads where styles are stripped: what is in
    ``code`` elements, as `draw_text` draws it, is hidden by the styles."""
    told = verdict(summary, ok)
    if not lives:
        return f'<div class="pgt">{told}</div>'
    head = (
        '<tr class="n"><th>process</th><th>parent</th><th>command</th><th>from–to</th><th>notes</th>'
        f"<th><div><span>0 s</span> to <span>{duration_s:.1f} s</span></div></th></tr>"
    )
    if memory.is_worth_drawing(samples):
        head += _memory_row(samples, max(duration_s, 0.001))
    rows = "".join(_html_rows(lives[:MAX_ROWS], signals, duration_s))
    more = f"<p>and {len(lives) - MAX_ROWS} more</p>" if len(lives) > MAX_ROWS else ""
    sampled = f"<p>{words}</p>" if (words := _describe_sample(lives, unseen, "faint<code> (-)</code>")) else ""
    return (
        f'<div class="pgt">{style(__file__)}<details><summary>{told}</summary><div class="w"><table><tbody>{head}{rows}'
        f"</tbody></table></div>{more}<p>{_legend(lives, signals)}</p>{sampled}</details></div>"
    )


def _memory_row(samples: Sequence[MemorySample], total_s: float) -> str:
    words = memory.label(samples)
    text = memory.draw_text(samples, total_s, _HTML_WIDTH).replace(" ", "&nbsp;")
    return (
        f'<tr class="m"><td colspan="5">memory of all together: {words}</td><td class="t">'
        f'<div role="img" aria-label="{words}"><code>{text}</code>{memory.draw_svg(samples, total_s)}</div></td></tr>'
    )


def _html_rows(lives: Sequence[Life], signals: Sequence[Signalled], duration_s: float) -> Iterator[str]:
    total_s = max(duration_s, 0.001)
    for (sid, pgid), members in _grouped(lives):
        yield f'<tr class="g"><th colspan="6">session {sid} · process group {pgid}</th></tr>'
        for life in members:
            end = total_s if life.end is None else life.end
            left, width = 100 * life.start / total_s, max(0.0, 100 * (end - life.start) / total_s)
            known = 100 if end == life.start else round(100 * (life.last_seen - life.start) / (end - life.start))
            fades = f";--known:{known}%" if _is_uncertain(life) else ""
            kind = ' class="x"' if life.end is None else ' class="o"' if life.adopted else ""
            hits = [(at_s, name, f"{name} at {at_s:.2f} s") for at_s, name in _hits(signals, life.pid)]
            marks = "".join(
                f'<b{_mark(name)} style="left:{100 * at_s / total_s:.1f}%" title="{words}"></b>'
                for at_s, name, words in hits
            )
            label = ", ".join((_times(life), *(words for _, _, words in hits)))
            title = f' title="{quote(life.command)}"' if len(life.command) > _FITS else ""
            text = _text_bar(life, signals, total_s, _HTML_WIDTH).replace(" ", "&nbsp;")
            yield (
                f"<tr><td>{life.pid}</td><td>{life.ppid}</td><td{title}>{escape(life.command)}</td>"
                f'<td>{_times(life).replace(" ", "&nbsp;")}</td><td>{_notes(life, signals)}</td><td class="t">'
                f'<div role="img" aria-label="{label}"><code>{text}</code>'
                f'<i{kind} style="left:{left:.1f}%;width:{width:.1f}%{fades}"></i>{marks}</div></td></tr>'
            )


def _mark(name: str) -> str:
    return ' class="k"' if name == "SIGKILL" else ""


def draw_text(
    summary: str,
    lives: Sequence[Life],
    unseen: int,
    signals: Sequence[Signalled],
    samples: Sequence[MemorySample],
    duration_s: float,
) -> str:
    """The same as plain text, for terminals and screen readers."""
    total_s = max(duration_s, 0.001)
    lines = [summary]
    if memory.is_worth_drawing(samples):
        drawn = memory.draw_text(samples, total_s, _WIDTH)
        lines.append(f"{'memory':>9} |{drawn}| of all together: {memory.label(samples)}")
    for (sid, pgid), members in _grouped(lives[:MAX_ROWS]):
        lines.append(f"session {sid}, process group {pgid}")
        for life in members:
            notes = f" ({words})" if (words := _notes(life, signals)) else ""
            bar = _text_bar(life, signals, total_s, _WIDTH)
            lines.append(f"  {life.pid:>7} |{bar}| {_times(life)} {visible(life.command, 60)}{notes}")
    if len(lives) > MAX_ROWS:
        lines.append(f"and {len(lives) - MAX_ROWS} more")
    if words := _describe_sample(lives, unseen, "-"):
        lines.append(words)
    return "\n".join(lines)


def _text_bar(life: Life, signals: Sequence[Signalled], total_s: float, width: int) -> str:
    end = total_s if life.end is None else life.end
    first = min(width - 1, int(width * life.start / total_s))
    last = max(first + 1, round(width * end / total_s))
    seen = max(first + 1, round(width * life.last_seen / total_s)) if _is_uncertain(life) else last
    bar = list(" " * first + ("~" if life.adopted else "=") * (seen - first) + "-" * (last - seen))
    bar += " " * (width - len(bar))
    for at_s, name in _hits(signals, life.pid):
        bar[min(width - 1, int(width * at_s / total_s))] = _drawn(name)
    return "".join(bar)


def _drawn(signal: str) -> str:
    return "K" if signal == "SIGKILL" else "!"


def _notes(life: Life, signals: Sequence[Signalled]) -> str:
    """What colours and marks show: whether it was an orphan, whether it is still there, which signals it got."""
    kinds = [word for word, holds in (("orphan", life.adopted), ("still there", life.end is None)) if holds]
    return ", ".join([*kinds, *(name for _, name in _hits(signals, life.pid))])


def _is_uncertain(life: Life) -> bool:
    """Whether the picture can show that the end lies in an interval."""
    return life.end is not None and life.end - life.last_seen >= _UNCERTAIN_S


def _describe_sample(lives: Sequence[Life], unseen: int, mark: str) -> str:
    """What the picture can't show, because processes are looked at from time to time only. ``mark`` is how an end looks
    that lies between two looks."""
    if len(lives) <= 1 and not unseen:
        return ""
    words = ["sampled: quicker processes can be missing"]
    if any(map(_is_uncertain, lives)):
        words.append(f"an end lies in the part drawn {mark}")
    if unseen:
        words.append(f"{count(unseen, 'orphan')} ended unseen")
    return "; ".join(words)


def _grouped(lives: Sequence[Life]) -> Iterator[tuple[tuple[int, int], list[Life]]]:
    """By session and process group, the earliest first; in each group its leader, then as they started."""
    groups: dict[tuple[int, int], float] = {}
    for life in lives:
        groups.setdefault((life.sid, life.pgid), life.start)
    sessions: dict[int, float] = {}
    for (sid, _), start in groups.items():
        sessions.setdefault(sid, start)

    def place(life: Life) -> tuple[float, ...]:
        # Starts are known to the clock tick only: processes that started about together are in the order of the pids.
        group = sessions[life.sid], life.sid, groups[life.sid, life.pgid], life.pgid
        return *group, life.pid != life.pgid, round(life.start, 1), life.pid

    for key, members in itertools.groupby(sorted(lives, key=place), key=lambda life: (life.sid, life.pgid)):
        yield key, list(members)


def _hits(signals: Sequence[Signalled], pid: int) -> list[tuple[float, str]]:
    return [(sent.at_s, sent.signal) for sent in signals if pid in sent.pids]


def _times(life: Life) -> str:
    if life.end is None:
        return f"from {life.start:.1f} s"
    return f"{life.start:.1f}–{'≤' if _is_uncertain(life) else ''}{life.end:.1f} s"


def _legend(lives: Sequence[Life], signals: Sequence[Signalled]) -> str:
    kinds = [
        ("<code>=</code>", "", "a process", any(life.end is not None and not life.adopted for life in lives)),
        ("<code>~</code>", ' class="o"', "an orphan, adopted by the guard", any(life.adopted for life in lives)),
        ("", ' class="x"', "still there", any(life.end is None for life in lives)),
    ]
    bars = [f"<span>{drawn} <i{kind}></i>{words}</span>" for drawn, kind, words, there in kinds if there]
    marks = [
        f"<span><code>{_drawn(sent.signal)}</code> <b{_mark(sent.signal)}></b>"
        f"{escape(sent.signal)} at {sent.at_s:.2f} s to {count(len(sent.pids), 'process')}</span>"
        for sent in signals
    ]
    return " ".join(bars + marks)
