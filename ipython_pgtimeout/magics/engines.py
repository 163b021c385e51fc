"""``--engines``: the command of a cell or line, on engines of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..parallel.client import run_on_engines
from ..parallel.targets import view_of
from ..results import Results
from ..spec import Showing
from ..values import InputError
from .screen import Screen


def run_on_active_client(ip: Any, given: Mapping[str, Any], showing: Showing, screen: Screen) -> Results:
    """Run the command of ``given`` on the engines that ``showing`` names, set the variables that it names, and raise
    what it does not forbid."""
    assert showing.engines is not None
    if showing.bg or showing.job is not None:
        raise InputError(": a job runs in this kernel; write --bg and --job without it", field="engines")
    results = run_on_engines(view_of(ip, showing.engines), given, screen.show)
    variables = {
        showing.result: results,
        showing.out: [result.stdout for result in results],
        showing.err: [result.stderr for result in results],
    }
    ip.user_ns.update({name: value for name, value in variables.items() if name is not None})
    ip.user_ns["_exit_code"] = next((result.returncode for result in results if not result.ok), 0)
    if results.interrupted:
        raise results.make_interrupt()
    if not showing.no_raise:
        results.check_returncode()
    return results
