"""Shell cells that can be trusted: nothing a cell starts outlives its deadline, its interrupt or its kernel.

%load_ext ipython_pgtimeout

%%timeout_shell 30
make test
"""

from __future__ import annotations

import os
from typing import Any

if os.name != "posix":
    raise ImportError(
        "ipython_pgtimeout needs a POSIX system: sessions, process groups and signals are what it works with, "
        f"and {os.name!r} has none"
    )

from .api import run, run_async, start
from .caller.job import Job
from .result import CommandEnded, CommandFailed, CommandOverLimit, CommandTimeout, GuardDied, JobTimeout, Result
from .results import Results
from .shared.records import Exceeded, Life, MemorySample, Process, Signalled
from .values import InputError
from .version import __version__

__all__ = [
    "CommandEnded",
    "CommandFailed",
    "CommandOverLimit",
    "CommandTimeout",
    "Exceeded",
    "GuardDied",
    "InputError",
    "Job",
    "JobTimeout",
    "Life",
    "MemorySample",
    "Process",
    "Result",
    "Results",
    "Signalled",
    "__version__",
    "load_ipython_extension",
    "run",
    "run_async",
    "start",
    "unload_ipython_extension",
]


def load_ipython_extension(ip: Any) -> None:
    """``%load_ext ipython_pgtimeout``: register the magics, and start the helper processes in the background."""
    from .caller.connection import connection
    from .magics.extension import Extension

    extension = Extension(ip)  # first: a bad value in the configuration raises here, and leaves what was loaded
    unload_ipython_extension(ip)
    extension.register()
    ip.ipython_pgtimeout = extension
    connection.prepare()


def unload_ipython_extension(ip: Any) -> None:
    """``%unload_ext ipython_pgtimeout``: take the magics away, end all jobs and the helper processes."""
    from .caller.connection import connection
    from .caller.driven import end_all

    extension = ip.__dict__.pop("ipython_pgtimeout", None)
    if extension is not None:
        extension.unregister()
        end_all()
        connection.close()
