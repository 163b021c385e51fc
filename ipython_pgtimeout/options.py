"""The declaration of one field of a command: its flag, parser, help and default. The fields are in `spec`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .values import InputError


@dataclass(frozen=True)
class Option:
    """The declaration of one field.

    ``parse`` turns what a user gives into a quantity; ``default`` is written as a user would write it. The rest is for
    a magic's line: ``flags`` (none for a positional field), ``metavar`` (None for a switch), ``choices`` (not always
    all that there are), and ``parse_text`` where the line does not hold the value itself but says where it is.
    """

    name: str
    default: object
    parse: Callable[[Any], Any]
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    help: str = ""
    choices: tuple[str, ...] = ()
    is_repeated: bool = False
    parse_text: Callable[[str], Any] | None = None

    @property
    def suggestions(self) -> tuple[str, ...]:
        """What completion offers as its value: the choices, or at least the default."""
        return self.choices or ((self.default,) if isinstance(self.default, str) else ())

    @property
    def is_configurable(self) -> bool:
        """Whether ``%config`` has a default for it: names of variables and files belong to one command."""
        return isinstance(self.default, (bool, str))

    def parsed(self, value: object) -> Any:
        """``value`` as a quantity. An `InputError` has the name of this option as its ``field``."""
        return self._naming(self.parse, value)

    @functools.cached_property
    def parsed_default(self) -> Any:
        """Parsed once, because most options of most commands are not given."""
        return self.parsed(self.default)

    def parsed_text(self, text: str) -> Any:
        """The text from a magic's line: the value itself, not parsed yet, or where it is."""
        return text if self.parse_text is None else self._naming(self.parse_text, text)

    def _naming(self, parse: Callable[[Any], Any], value: object) -> Any:
        try:
            return parse(value)
        except InputError as error:
            error.field = self.name
            raise


def declare(default: object, parse: Callable[[Any], Any], *flags: str, **rest: Any) -> Any:
    return field(metadata={"default": default, "parse": parse, "flags": flags, **rest})
