"""What the parent does when its guard was killed: it ends everything that the guard has left to it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

from ..helper import killing
from ..shared.processes import can_list, children, describe
from ..shared.protocol import GIVE_UP_AFTER_S
from ..wording import describe_death_of_guard

_AGAIN_AFTER_S = 0.005


def sweep(spared: Iterable[int]) -> str:
    """SIGKILL to all that is below this process, but for ``spared`` children, until nothing is left. Returns what came
    of it, in one sentence."""
    spared = set(spared)

    def roots() -> Iterable[int]:
        return killing.running_children(spared)

    swept: set[int] = set()
    give_up_at = time.monotonic() + GIVE_UP_AFTER_S
    while time.monotonic() < give_up_at:
        swept.update(killing.signal_all(signal.SIGKILL, roots))
        if not _reap(spared):
            break
        time.sleep(_AGAIN_AFTER_S)
    left = describe(killing.list_running(roots), known={})
    return describe_death_of_guard((len(swept), left, can_list()), "", by="pgtimeout")


def _reap(spared: set[int]) -> bool:
    """Whether there are children beside the spared ones, ended or not: see `Launcher._has_others`."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return not spared.issuperset(children(os.getpid()))
