"""Helper processes with changed code, to show what depends on the original code."""

from __future__ import annotations

_CELL = """
from ipython_pgtimeout.caller import connection
start = "from ipython_pgtimeout.helper.launcher import main"
assert start in connection._BOOTSTRAP
connection._BOOTSTRAP = connection._BOOTSTRAP.replace(start, {code!r} + "\\n" + start)
"""


def tampering_cell(code: str) -> str:
    """A cell to run before the first command. Every launcher then executes ``code`` before it starts.

    ``code`` can import the helpers' modules.
    """
    return _CELL.format(code=code)
