"""What a command can change of its guard, and of the launcher: by prlimit(1), renice(1), taskset(1), chrt(1)."""

from __future__ import annotations

from typing import NamedTuple

from ..shared import rights
from ..shared.inheritance import Inheritance


class Attributes(NamedTuple):
    """Of this process. A helper that has others than its launcher had at the start serves no command."""

    inheritance: Inheritance
    scheduling: tuple[object, ...]

    @classmethod
    def current(cls) -> Attributes:
        return cls(Inheritance.current(b""), rights.scheduling())
