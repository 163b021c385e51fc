"""Results and quantities as sentences. Plain values come in: nothing in here knows a `Result`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from .shared.records import Exceeded, Process, Signalled
from .shared.signals import signal_name

# Controls, formatting (which can reorder text or hide it), lone surrogates, private use, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_LONGEST = 160
_SEARCHED = 4096
CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""ECMA-48, 5.4: colours and movements of the cursor."""


def describe_result(
    reason: str,
    returncode: int | None,
    limit_s: float,
    exceeded: Exceeded | None,
    error: str,
    signals: Sequence[Signalled],
    survivors: Sequence[Process],
    certain: bool,
    duration_s: float,
    stderr: str,
) -> str:
    """One sentence: what ended the command, which signals were sent, which processes are left, how long it took.

    ``limit_s`` is the time that was exceeded, and ``exceeded`` another limit, if ``reason`` names one. An exit code
    says little, so the last line of ``stderr`` follows it.
    """
    ending = [sent for sent in signals if not sent.on_request]
    if exceeded is not None:
        parts = [_describe_excess(exceeded)]
    else:
        parts = [_describe_ending(reason, returncode, limit_s, error, bool(ending), stderr)]
    if sent := _describe_signals(ending):
        if exceeded is None:
            parts[0] += f": {sent}"
        else:
            parts.append(sent)
        if not survivors:
            parts.append(describe_nothing_left(certain))
    if survivors:
        what = "could not be killed" if ending else "left running"
        parts.append(f"{what}: {name_processes(survivors)}")
    return "; ".join(parts) + f" ({format_seconds(duration_s)})"


def _describe_ending(
    reason: str, returncode: int | None, limit_s: float, error: str, has_signals: bool, stderr: str
) -> str:
    if reason == "timeout":
        return f"timed out after {format_limit(limit_s)}"
    if reason == "idle":
        return f"ended after {format_limit(limit_s)} without output"
    if reason == "failed-to-start":
        return f"could not start: {error}"
    if reason == "engine-died":
        return error
    if reason in ("interrupted", "terminated"):
        return f"{reason}: {error}" if error else reason
    ending = describe_exit(returncode)
    if returncode and returncode > 0 and (line := last_line(stderr)):
        ending += f": {line}"
    return f"{ending}; leftovers ended" if has_signals else ending


def _describe_excess(exceeded: Exceeded) -> str:
    """``out of memory (2.1 of 2 GB): python3 (123) had 1.9 GB``"""
    if exceeded.what == "processes":
        return f"too many processes ({exceeded.used:.0f} of {exceeded.limit:.0f})"
    is_memory = exceeded.what == "memory"
    size, unit = _scaled(exceeded.limit) if is_memory else (1.0, "s")
    used, limit, share = (_rounded(number / size) for number in (exceeded.used, exceeded.limit, exceeded.share))
    largest = f": {visible(exceeded.name)} ({exceeded.pid}) had {share} {unit}" if exceeded.pid else ""
    return f"out of {'memory' if is_memory else 'processor time'} ({used} of {limit} {unit}){largest}"


def _rounded(number: float) -> str:
    """About three digits: ``2.13``, ``51.3``, ``513``, ``1100``, and ``2`` for 2.0."""
    return f"{round(number, 2 if number < 10 else 1 if number < 100 else 0):g}"


def _describe_signals(signals: Sequence[Signalled]) -> str:
    told = [sent for sent in signals if sent.pids]
    # The noun once is enough: "SIGTERM to 3 processes, SIGKILL to 1"
    return ", ".join(
        f"{sent.signal} to {len(sent.pids) if number else count(len(sent.pids), 'process')}"
        for number, sent in enumerate(told)
    )


def describe_exit(returncode: int | None) -> str:
    """``exit code 3`` or ``ended by SIGSEGV``"""
    if returncode is None:
        return "not ended"
    return f"exit code {returncode}" if returncode >= 0 else f"ended by {signal_name(-returncode)}"


def describe_waiting(
    returncode: int, processes: Sequence[Process], total: int, first: str = "the shell", whole: str = "the cell"
) -> str:
    """The ``first`` process has exited, and ``processes``, the first of ``total``, have not."""
    waiting = f"waiting for {count(total, 'process')}: {name_processes(processes, total)}"
    way_out = f"with --leftovers leave or kill {whole} does not wait"
    return f"{first} has ended ({describe_exit(returncode)}); {waiting}; {way_out}"


def describe_wait(timeout_s: float, pattern: str) -> str:
    """A wait for a job was in vain; ``pattern`` is what should have been in its output, "" if its end."""
    return f"waited {format_limit(timeout_s)} for " + (f"{pattern!r}" if pattern else "the end of the job")


def describe_written(stdout: str, stderr: str) -> str:
    """The last line of each stream."""
    lines = [
        f"{name} ends with {line!r}"
        for name, text in (("stdout", stdout), ("stderr", stderr))
        if (line := last_line(text))
    ]
    return ", ".join(lines) or "it has written nothing"


def describe_death_of_guard(
    swept: tuple[int, Sequence[Process], bool] | None,
    error: str,
    killed_by_us: int | None = None,
    by: str = "the launcher",
) -> str:
    """``swept`` is how many processes have been killed then ``by`` the guard's parent, which are left, and whether that
    is certain; None if the parent has died too. ``error`` is the last line of a Python error in the helper processes.
    ``killed_by_us`` is how many processes of the command were killed with a guard that did not answer; None if it has
    died by itself."""
    if killed_by_us is not None:
        died = f"the guard of this command did not answer, and was killed with {count(killed_by_us, 'process')}"
    else:
        died = "the guard of this command has died" + (f" of an error of its own, {error}" if error else "")
    if swept is None:
        return f"{died}, and the launcher too: what the command has started may still run"
    killed, survivors, certain = swept
    ended = f"{died}; {by} has sent SIGKILL to {count(killed, 'process')} it left"
    if survivors:
        return f"{ended}; could not be killed: {name_processes(survivors)}"
    return f"{ended}; {describe_nothing_left(certain)}"


def describe_nothing_left(certain: bool) -> str:
    """``certain`` is whether the system can tell."""
    return "all are gone" if certain else "no others found"


def format_notice(text: str) -> str:
    """Our own message about a command, as it stands among the command's output: marked, on lines of its own."""
    return "".join(f"[pgtimeout] {line}\n" for line in text.splitlines())


def name_processes(processes: Sequence[Process], total: int = 0) -> str:
    """``sleep (1234), python3 (1235) and 7 more``"""
    names = ", ".join(f"{visible(process.name)} ({process.pid})" for process in processes)
    more = total - len(processes)
    return f"{names} and {more} more" if more > 0 else names


def count(number: int, noun: str) -> str:
    """``1 process``, ``2 processes``"""
    return f"{number} {noun if number == 1 else noun + ('es' if noun.endswith('s') else 's')}"


def format_seconds(seconds: float) -> str:
    """A time that was measured: ``0.012 s``, ``3.2 s``, ``30.0 s``."""
    return f"{seconds:.3f} s" if 0 < seconds < 0.1 else f"{seconds:.1f} s"


def format_duration(seconds: float) -> str:
    """A time to be read at a glance: ``4.2 s``, ``3 min 20 s``, ``1 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes} min {second:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def format_limit(seconds: float) -> str:
    """A time that was set, as it was set: ``0.3 s``, ``30 s``, ``inf s``."""
    return f"{seconds:.10g} s"


def format_bytes(size: float) -> str:
    """``512 B``, ``3.1 MB``: decimal, as disks and networks count."""
    unit_bytes, unit = _scaled(size)
    number = size / unit_bytes
    return f"{number:.0f} {unit}" if unit == "B" or 100 <= number < 1000 else f"{number:.1f} {unit}"


def _scaled(size: float) -> tuple[float, str]:
    """The unit for that many bytes: its size and its name."""
    for power, unit in enumerate(("B", "kB", "MB", "GB")):
        if size < 1000 ** (power + 1):
            return 1000.0**power, unit
    return 1e12, "TB"


def visible(text: str, longest: int = _LONGEST) -> str:
    """One line, with every character that can't be seen written as its escape: ``\\u202e``, ``\\x1b``. Use it for
    all text from a command: a program chooses its own name."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(
        ascii(character)[1:-1] if unicodedata.category(character) in _HIDDEN else character for character in cut
    )


def last_line(text: str) -> str:
    """The last line of ``text`` that is not blank, cut and made `visible`, without colours."""
    lines = re.split(r"[\r\n]+", CONTROL_SEQUENCE.sub("", text[-_SEARCHED:]))
    return next((visible(line.strip()) for line in reversed(lines) if line.strip()), "")


def render_error(name: str, text: str) -> list[str]:
    """A line like the first of IPython's tracebacks, in colour unless the user wants none. Only IPython calls this."""
    from IPython import get_ipython

    ip: Any = get_ipython()
    plain = ip is not None and ip.colors.lower() == "nocolor"
    return [f"{name}: {text}" if plain else f"\x1b[31m{name}\x1b[0m: {text}"]
