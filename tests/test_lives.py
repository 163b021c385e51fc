"""The lives in a result: exact where the kernel reports process events, elsewhere sampled, and said to be so.

At 0.1 the table had 12 of 30 short processes, and the end of each was drawn where a look had missed it.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import time

import pytest

from ipython_pgtimeout import run
from ipython_pgtimeout.helper.events import EventReader
from ipython_pgtimeout.helper.lives import MAX_UNSEEN, Lives
from ipython_pgtimeout.shared.processes import UNFOUND, look_up
from ipython_pgtimeout.shared.records import Process

from .isolation import run_isolated
from .test_pictures import lives_of
from .watching import wait_until

SHORT_LIVES = "for n in {1..20}; do sleep 0.031; done"
SAMPLED = """
result = run({script!r}, 20)
told(lives=[life._asdict() for life in result.processes], pid=result.pid, unseen=result.unseen,
     text=result.timeline(), html=result._repr_mimebundle_()["text/html"])
"""


@pytest.fixture
def events() -> None:
    """Skips where the kernel reports none."""
    try:
        reader = EventReader(Lives(0.0))
    except OSError as error:
        pytest.skip(f"no process events here: {error}")
    assert reader.stop(5)


# -- with process events --------------------------------------------------------------------------------------


@pytest.mark.alone
@pytest.mark.usefixtures("events")
def test_with_events_each_short_life_is_recorded_with_its_end() -> None:
    """From the first look on, 0.1 s after the start."""
    result = run(SHORT_LIVES, 20)
    sleeps = lives_of(result, "sleep 0.031")
    assert len(sleeps) >= 15, result.timeline()
    for life in sleeps:
        assert life.last_seen == life.end
        assert life.end - life.start == pytest.approx(0.033, abs=0.03)
        assert (life.ppid, life.pgid, life.sid) == (result.pid, result.pid, result.pid)
    for earlier, later in itertools.pairwise(sleeps):
        assert earlier.end is not None
        assert earlier.end <= later.start


@pytest.mark.alone
@pytest.mark.usefixtures("events")
def test_with_events_sessions_orphans_and_programs_are_recorded() -> None:
    result = run("sleep 0.2; (setsid sleep 0.05 &); bash -c 'sleep 0.07 & wait'; sleep 0.1", 20)
    (daemon,), (child,) = lives_of(result, "sleep 0.05"), lives_of(result, "sleep 0.07")
    assert (daemon.pgid, daemon.sid) == (daemon.pid, daemon.pid)
    assert daemon.adopted
    assert not child.adopted
    assert child.ppid != result.pid
    assert len(lives_of(result, "bash -c sleep 0.07 & wait")) == 1


# -- without --------------------------------------------------------------------------------------------------


def test_ends_that_no_look_has_seen_are_drawn_as_uncertain() -> None:
    """In a PID namespace there are no events, and the shell reaps its children itself. On a busy machine the short ones
    are drawn in one column each, so there are some that last."""
    many = f"for m in {{1..5}}; do {SHORT_LIVES}; done"
    told = run_isolated(SAMPLED.format(script=f"{many}; for n in {{1..4}}; do sleep 0.4; done"))
    sleeps = [life for life in told["lives"] if life["command"] == "sleep 0.031"]
    assert 0 < len(sleeps) < 100
    for life in sleeps:
        assert life["start"] <= life["last_seen"] < life["start"] + 0.2
        assert life["last_seen"] <= life["end"]
    (shell,) = (life for life in told["lives"] if life["pid"] == told["pid"])
    assert shell["last_seen"] == shell["end"], "the guard has reaped it: its end is exact"
    *_, sample = told["text"].splitlines()
    assert re.search(r"\|.*=-+ *\| \d\.\d–≤\d\.\d s sleep", told["text"]), told["text"]
    assert sample == "sampled: quicker processes can be missing; an end lies in the part drawn -"
    assert "an end lies in the part drawn faint" in told["html"]


def test_a_single_process_is_no_sample() -> None:
    assert "sampled" not in run("exec true", 20).timeline()


def test_orphans_that_end_unseen_are_counted() -> None:
    told = run_isolated(SAMPLED.format(script=f"for n in {{1..{4 * MAX_UNSEEN}}}; do (true &); done"))
    assert MAX_UNSEEN < told["unseen"] <= 4 * MAX_UNSEEN
    assert len([life for life in told["lives"] if life["command"] == "[unseen]"]) == MAX_UNSEEN
    assert told["text"].endswith(f"; {told['unseen']} orphans ended unseen")


# -- looks and events in any order ----------------------------------------------------------------------------

SHELL, CHILD = 100, 101


def _process(pid: int, command: str) -> Process:
    return Process(pid, SHELL, SHELL, SHELL, "S", 0, command, command, age_s=0.0, cpu_s=0.0, rss_bytes=0)


def test_an_exit_during_a_look_is_not_undone_by_it() -> None:
    lives = Lives(0.0)
    lives.record_shell(SHELL, [b"sh"])
    lives.record_fork(SHELL, CHILD, 1.0)
    lives.begin_look()
    lives.record_exit(CHILD, 2.0)
    lives.record_look([_process(SHELL, "sh"), _process(CHILD, "sleep")])
    lives.record_look([_process(SHELL, "sh")])
    lives.record_reaping(CHILD, SHELL, SHELL)
    (child,) = (life for life in lives.all(have_ended=True) if life.pid == CHILD)
    assert (child.start, child.last_seen, child.end) == (1.0, 2.0, 2.0)
    assert lives.unseen == 0


def test_a_pid_that_is_used_again_is_another_life() -> None:
    lives = Lives(0.0)
    lives.record_shell(SHELL, [b"sh"])
    for second in (1.0, 2.0):
        lives.record_fork(SHELL, CHILD, second)
        lives.record_execve(CHILD, f"at {second}")
        lives.record_exit(CHILD, second + 0.5)
    lives.record_fork(CHILD, 7, 3.0)  # by a stranger that has the same pid
    ended = [(life.command, life.start, life.end) for life in lives.all(have_ended=True) if life.pid != SHELL]
    assert ended == [("at 1.0", 1.0, 1.5), ("at 2.0", 2.0, 2.5)]


def test_a_young_process_can_become_another_program_of_the_same_name() -> None:
    """A bash that a bash has started was seen before its execve(2): its command line stayed that of the bash before."""
    script = "read go; exec bash -c 'echo now; read end; :' afterwards"
    with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert wait_until(lambda: "read go" in getattr(look_up(process.pid), "command", ""), 10)
        before = look_up(process.pid)
        assert before is not None
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "now\n"
        after = look_up(process.pid, before)
        assert after is not None
        assert (after.name, after.command.split()[-1]) == ("bash", "afterwards")
        old = look_up(process.pid, before._replace(age_s=60.0))
        assert old is not None
        assert old.command == before.command, "that of an old process is reused: to read it costs more than the rest"
        print(file=process.stdin, flush=True)


def test_what_the_guard_has_reaped_was_an_orphan_though_no_look_has_seen_it_as_one() -> None:
    """Its parent has ended between the look and its own end."""
    lives = Lives(time.monotonic())
    lives.record_shell(10, [b"sh"])
    lives.record_look([UNFOUND._replace(pid=11, ppid=10, state="R")])
    lives.record_reaping(11, 11, 11)
    lives.record_reaping(10, 10, 10)
    assert {life.pid: life.adopted for life in lives.all(have_ended=True)} == {10: False, 11: True}
