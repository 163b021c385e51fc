"""Signals by name and number, real-time signals included: signal(7)."""

from __future__ import annotations

import signal

_VALID = frozenset(map(int, signal.valid_signals()))
"""Asked once: it makes an enum of every signal, which would be a tenth of a command's launch."""

NAMES = tuple(name.removeprefix("SIG") for name in signal.Signals.__members__)
"""As `signal_number` takes them: ``TERM``, ``INT``, ``RTMIN``."""


def signal_name(number: int) -> str:
    """``SIGTERM``, ``SIGRTMIN+1``, as `kill -l` spells them; ``signal 99`` where there is no name."""
    try:
        return signal.Signals(number).name
    except ValueError:  # Python names only the first and the last real-time signal
        low, high = _real_time_range()
        if low < number < high:
            from_low, from_high = number - low, high - number
            return f"SIGRTMIN+{from_low}" if from_low <= from_high else f"SIGRTMAX-{from_high}"
        return f"signal {number}"


def signal_number(text: str) -> int:
    """The number of ``TERM``, ``SIGTERM``, ``term``, ``15``, ``RTMIN+1`` or ``RTMAX-1``.

    Raises ValueError for what names no signal that can be sent here.
    """
    name = text.strip().upper().removeprefix("SIG")
    base, plus, offset = name.partition("+") if "+" in name else name.partition("-")
    if name.isdecimal():
        number = int(name)
    elif plus and base == ("RTMIN" if plus == "+" else "RTMAX") and offset.isdecimal():
        low, high = _real_time_range()
        number = low + int(offset) if plus == "+" else high - int(offset)
        if not low <= number <= high:
            raise ValueError(text)
    elif f"SIG{name}" in signal.Signals.__members__:
        number = signal.Signals[f"SIG{name}"]
    else:
        raise ValueError(text)
    if number not in _VALID:
        raise ValueError(text)
    return int(number)


def _real_time_range() -> tuple[int, int]:
    """The first and the last real-time signal; an empty range where there are none (macOS)."""
    return getattr(signal, "SIGRTMIN", 0), getattr(signal, "SIGRTMAX", 0)
