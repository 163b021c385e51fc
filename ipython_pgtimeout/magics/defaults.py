"""What is configured: the default of each option as a trait, by ``%config PgTimeout`` or in a config file."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

from traitlets import Bool, TraitError, TraitType, Unicode
from traitlets.config import Configurable

from ..caller.connection import connection
from ..options import Option
from ..shared import debuglog
from ..spec import FIELDS
from ..values import InputError
from . import line as lines

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

CONFIGURABLE = [option for option in FIELDS.values() if option.is_configurable]


class _Default(TraitType[str, Any]):
    """An option's default, kept as text and checked by the option's own parser."""

    def __init__(self, option: Option) -> None:
        super().__init__(option.default, help=option.help, config=True)
        self._option = option

    def validate(self, _obj: object, value: object) -> str:
        text = str(value)
        try:
            if text:
                self._option.parsed(text)
        except InputError as error:
            raise TraitError(str(error)) from None
        return text


class _Everywhere(TraitType[str, Any]):
    """A line of ``%timeout_shell``, kept as text."""

    def validate(self, _obj: object, value: object) -> str:
        line = str(value).strip()
        try:
            if line:
                lines.read_everywhere(line)
        except lines.HelpWanted:
            raise TraitError("everywhere takes no --help; write for example '10m'") from None
        except InputError as error:
            raise TraitError(f"everywhere: {error.spelled(lines.flag_of(error.field))}") from None
        return line


def _trait(option: Option) -> TraitType[Any, Any]:
    return _Default(option) if option.metavar else Bool(bool(option.default), help=option.help, config=True)


_Traits: Any = types.new_class(
    "_Traits",
    (Configurable,),
    exec_body=lambda body: body.update({option.name: _trait(option) for option in CONFIGURABLE}),
)


class PgTimeout(_Traits):  # type: ignore[misc]
    """The defaults of %%timeout_shell and %run_timed: ``%config PgTimeout.kill_after = "5s"``."""

    debug = Unicode(
        "", help="a file that tells what each helper process does, and when; for reports of errors", config=True
    )

    everywhere = _Everywhere(
        "", help="a deadline for every shell command of the notebook, as after %timeout_shell: 10m", config=True
    )

    def __init__(self, ip: InteractiveShell) -> None:
        super().__init__(parent=ip)
        self._parsed: dict[str, Any] = {}
        for option in CONFIGURABLE:
            self._parse(option)
            self.observe(lambda _, option=option: self._parse(option), option.name)
        if self.debug:
            self._open_log()
        self.observe(lambda _: self._open_log(), "debug")

    def parsed(self) -> dict[str, Any]:
        """The values that are configured otherwise than declared, parsed once and not for each command."""
        return self._parsed.copy()

    def _parse(self, option: Option) -> None:
        value = getattr(self, option.name)
        if value == option.default:
            self._parsed.pop(option.name, None)
        else:
            self._parsed[option.name] = option.parsed(value)

    def _open_log(self) -> None:
        try:
            debuglog.open_log(self.debug)
        except (OSError, ValueError) as error:
            raise TraitError(f"debug can't be {self.debug!r}: {error}; write the path of a file") from None
        connection.close()  # the next command starts helpers that write there
