"""Helper processes with something changed in them, to see what depends on it."""

from __future__ import annotations

_CELL = """
from ipython_pgtimeout.caller import connection
start = "from ipython_pgtimeout.helper.launcher import main"
assert start in connection._BOOTSTRAP
connection._BOOTSTRAP = connection._BOOTSTRAP.replace(start, {code!r} + "\\n" + start)
"""


def tampered(code: str) -> str:
    """A cell for before the first command: each launcher executes ``code``, which can import the helpers' modules."""
    return _CELL.format(code=code)
