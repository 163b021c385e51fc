"""Limits of memory, processor time and processes, for all processes of a command together; memory in a result."""

from __future__ import annotations

import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ipython_pgtimeout import CommandOverLimit, Result, run
from ipython_pgtimeout.shared.processes import linux, portable

from .isolation import run_isolated
from .kernels import Kernel
from .tampering import tampering_cell
from .watching import marked, program, wait_until, wait_until_gone

MB = 1_000_000
LIMIT = 300 * MB
BEYOND = 0.5
"""How far beyond its limit memory may get here, where other tests run beside. The benchmarks tell how far it does."""


@pytest.fixture
def busy() -> Iterator[None]:
    """Two loops that take the processors."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


def grows(mark: str, rate: int, most: int = 1500, ignoring: str = "") -> str:
    """A program that takes ``rate`` megabytes per second, ``most`` in all."""
    return f"{program('limits/grows.py', mark)} {rate} {most} {ignoring}"


def over_limit(command: str, what: str, **limits: object) -> Result:
    """Run it, and see that this limit ends it, that the sentence says so, and that the exception is raised."""
    with pytest.raises(CommandOverLimit) as caught:
        run(command, 40, check=True, **limits)
    result = caught.value.result
    assert (result.reason, result.over_limit, result.timed_out, result.ok) == (what, True, False, False)
    assert result.exceeded is not None
    assert result.exceeded.what == what
    assert result.survivors == ()
    assert "; all are gone (" in str(caught.value)
    twin = pickle.loads(pickle.dumps(caught.value))
    assert (str(twin), twin.result) == (str(caught.value), result)
    return result


# -- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "rate"),
    [("exec {}", 200), ("exec {}", 1000), ("{} & wait", 1000), ("setsid {} & wait", 1000), ("(setsid {} &)", 1000)],
    ids=["slow", "quick", "child", "session", "orphan"],
)
def test_what_takes_too_much_memory_is_ended_and_named(mark: str, command: str, rate: int) -> None:
    result = over_limit(command.format(grows(mark, rate)), "memory", memory="300MB")
    assert result.exceeded is not None
    assert LIMIT <= result.exceeded.used < (1 + BEYOND) * LIMIT
    assert result.exceeded.share > 0.9 * result.exceeded.used
    assert result.exceeded.name.startswith("python")
    assert f"of 300 MB): {result.exceeded.name} ({result.exceeded.pid}) had " in result.summary()
    assert result.peak_memory >= result.exceeded.used
    assert result.signals[0].signal == "SIGTERM"
    assert marked(mark) == []


@pytest.mark.usefixtures("busy")
def test_the_limit_holds_on_a_busy_machine(mark: str) -> None:
    result = over_limit(f"setsid {grows(mark, 1000)} & wait", "memory", memory="300MB")
    assert result.exceeded is not None
    assert LIMIT <= result.exceeded.used < (1 + BEYOND) * LIMIT
    assert marked(mark) == []


def test_without_a_limit_it_gets_the_memory(mark: str) -> None:
    result = run(f"exec {grows(mark, 1000, most=500)}", 3, kill_after=0)
    assert (result.reason, result.stdout) == ("timeout", "ready\nall\n")
    assert result.peak_memory > 500 * MB
    assert result.exceeded is None


def test_many_that_have_too_much_together_are_ended(mark: str) -> None:
    """None of them has much: 20 times 30 MB."""
    result = over_limit(f"{program('limits/shares.py', mark)} 20 10 30", "memory", memory="300MB")
    assert result.exceeded is not None
    assert result.exceeded.share < 60 * MB
    assert marked(mark) == []


SHARING = """
result = run({command!r}, 30, memory={limit!r})
told(reason=result.reason, said=result.summary(), peak=result.peak_memory)
"""
ALL_COUNTS = tampering_cell(
    "import ipython_pgtimeout.helper.sampling as s; look = s.resident; "
    "s.resident = lambda pid: s.Resident(*[look(pid).all_bytes] * 2)"
)
WITHOUT_SHARES = tampering_cell("import ipython_pgtimeout.helper.memory as m; m.share_bytes = lambda pid: None")


@pytest.mark.parametrize("forks", [50, 150])
def test_what_processes_share_counts_once(mark: str, forks: int) -> None:
    command = f"exec {program('limits/shares.py', mark)} {forks} 100"
    told = run_isolated(SHARING.format(command=command, limit=f"{150 + forks}MB"))
    assert told["reason"] == "exited", told
    assert 100 * MB < told["peak"] < (150 + forks) * MB


def test_without_shares_the_sum_of_all_would_have_to_judge(mark: str) -> None:
    command = f"exec {program('limits/shares.py', mark)} 20 100"
    told = run_isolated(WITHOUT_SHARES + SHARING.format(command=command, limit="200MB"))
    assert told["reason"] == "memory", told


def test_a_mapped_file_does_not_count_and_shared_memory_does(mark: str, tmp_path: Path) -> None:
    """The kernel can do without a mapped file's pages. Memory that is made for sharing can't be dropped."""
    file = tmp_path / "file"
    with open(file, "wb") as whole:
        whole.truncate(400 * MB)
    maps = program("limits/maps.py", mark)
    assert run(f"exec {maps} {file}", 30, memory="300MB").ok
    told = run_isolated(ALL_COUNTS + SHARING.format(command=f"exec {maps} {file}", limit="300MB"))
    assert told["reason"] == "memory"
    result = over_limit(f"{maps} & {maps} & wait", "memory", memory="300MB")
    assert result.exceeded is not None
    assert result.exceeded.share < 1.1 * LIMIT


def test_what_ignores_the_first_signal_and_goes_on_growing_is_killed_at_once(mark: str) -> None:
    command = f"exec {grows(mark, 300, most=3000, ignoring='TERM')}"
    result = over_limit(command, "memory", memory="300MB", kill_after=30)
    assert [sent.signal for sent in result.signals] == ["SIGTERM", "SIGKILL"]
    assert result.duration < 15
    assert result.peak_memory < 1000 * MB


def test_what_ignores_the_first_signal_and_does_not_grow_has_its_grace(mark: str) -> None:
    command = f"exec {grows(mark, 300, most=310, ignoring='TERM')}"
    result = over_limit(command, "memory", memory="300MB", kill_after=1.5)
    (term_at, *_), (kill_at, *_) = result.signals
    assert kill_at - term_at == pytest.approx(1.5, abs=0.5)


def test_in_a_kernel_the_command_is_ended_and_the_kernel_has_lost_nothing(kernel: Kernel, mark: str) -> None:
    kernel.run("from ipython_pgtimeout import run; run('true', 20)")
    processes = [psutil.Process(kernel.pid), kernel.launcher(), *kernel.guards()]
    before = [process.memory_info().rss for process in processes]
    reply = kernel.execute(f"%%timeout_shell --memory 300MB 40\nexec {grows(mark, 1000)}")
    assert reply.ename == "CommandOverLimit", reply
    assert reply.evalue.startswith("out of memory (3")
    after = [process.memory_info().rss for process in processes]
    assert all(now - was < 10 * MB for was, now in zip(before, after, strict=True)), (before, after)
    assert not wait_until_gone(mark, 1)
    assert kernel.run("%run_timed 20 echo still here").stdout == "still here\n"


def test_every_shell_cell_can_have_a_limit(kernel: Kernel, mark: str) -> None:
    kernel.run("%timeout_shell --memory 300MB 40")
    try:
        for cell in ("!{}", "x = !{}", "%%bash\nexec {}"):
            reply = kernel.execute(cell.format(grows(mark, 1000)))
            assert reply.ename == "CommandOverLimit", reply
            assert reply.evalue.startswith("out of memory (3"), reply
            assert marked(mark) == []
    finally:
        kernel.run("%timeout_shell off")


def test_the_limit_holds_for_a_job_too(mark: str) -> None:
    from ipython_pgtimeout import start

    job = start(f"exec {grows(mark, 500)}", 40, memory="300MB")
    job.wait(30)
    assert job.result is not None
    assert job.result.reason == "memory"


def test_the_memory_of_all_is_sampled_and_drawn(mark: str) -> None:
    result = run(f"exec {grows(mark, 100, most=150)}", 2.5, kill_after=0)
    assert len(result.memory_samples) >= 3
    times = [sample.at_s for sample in result.memory_samples]
    assert times == sorted(times)
    assert 150 * MB < result.peak_memory < 200 * MB
    drawn = next(line for line in result.timeline().splitlines() if "memory |" in line)
    assert re.search(r"[▁▂].*█ *\| of all together: up to 1\d\d MB at \d\.\d s$", drawn)
    assert "<polygon" in result._repr_mimebundle_()["text/html"]
    small = run("sleep 1.5", 20)
    assert "memory |" not in small.timeline()
    assert "<polygon" not in small._repr_mimebundle_()["text/html"]


# -- processor time -----------------------------------------------------------------------------------------------

HOGS = "for n in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; wait"
IN_SHORT_CHILDREN = "while :; do bash -c 'for ((i = 0; i < 20000; i++)); do :; done'; done"
ORPHANS = "while :; do (bash -c 'for ((i = 0; i < 20000; i++)); do :; done' &) ; sleep 0.02; done"


@pytest.mark.parametrize("command", [HOGS, IN_SHORT_CHILDREN, ORPHANS], ids=["eight children", "short ones", "orphans"])
def test_what_uses_too_much_processor_time_is_ended(command: str) -> None:
    result = over_limit(command, "cpu", cpu="1.5s")
    assert result.exceeded is not None
    assert 1.5 <= result.exceeded.used < 2.0
    assert re.match(r"out of processor time \([\d.]+ of 1\.5 s\): bash \(\d+\) had [\d.]+ s; ", result.summary())
    assert result.cpu_time >= 1.4, "what the system has counted"


def test_without_a_limit_it_goes_on() -> None:
    result = run(HOGS, 2.5, kill_after=0)
    assert (result.reason, result.exceeded) == ("timeout", None)


def test_waiting_costs_no_processor_time() -> None:
    assert run("sleep 2", 20, cpu="500ms").ok


# -- processes ----------------------------------------------------------------------------------------------------

BOMB = "bomb() { bomb | bomb & }; bomb"
IN_A_NAMESPACE = """
result = run({command!r}, {timeout}, **{limits!r})
told(reason=result.reason, said=result.summary(), left=left(), took_s=result.duration,
     used=result.exceeded and result.exceeded.used)
"""


@pytest.mark.alone
def test_a_fork_bomb_is_ended() -> None:
    limited = IN_A_NAMESPACE.format(command=BOMB, timeout=30, limits={"processes": 200})
    told = run_isolated(limited)
    assert told["reason"] == "processes", told
    assert told["left"] == []
    assert told["said"].startswith("too many processes ("), told
    assert 200 < told["used"] < 3000
    assert told["took_s"] < 10
    told = run_isolated("os.system('ulimit -u')\n" + IN_A_NAMESPACE.format(command=BOMB, timeout=0.5, limits={}))
    assert told["reason"] == "timeout", "without the limit only the deadline ends it"
    assert told["left"] == []


def test_more_processes_than_the_limit_are_too_many() -> None:
    result = over_limit("for n in {1..30}; do sleep 60 & done; wait", "processes", processes=20)
    assert re.match(r"too many processes \(\d+ of 20\); SIGTERM to \d+ processes; all are gone", result.summary())
    assert run("for n in {1..15}; do sleep 1 & done; wait", 20, processes=20).ok


# -- the system's own killer --------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
@pytest.mark.parametrize(("given", "score"), [({}, 1000), ({"oom_score_adj": 300}, 300), ({"oom_score_adj": 0}, None)])
def test_the_oom_killer_prefers_the_command_from_its_first_instruction(
    given: dict[str, int], score: int | None
) -> None:
    mine = int(Path("/proc/self/oom_score_adj").read_text())
    # The guard has the score, too, until it gets the processor again.
    restored = f"until [ $(</proc/$PPID/oom_score_adj) = {mine} ]; do sleep 0.02; done; echo restored"
    result: Any = run(f"cat /proc/self/oom_score_adj; {restored}", 20, **given)
    assert result.stdout.split() == [str(mine if score is None else max(score, mine)), "restored"]


CGROUP = Path("/sys/fs/cgroup/memory")
"""Where a cgroup of version 1 for memory can be made, if at all. In it the kernel's choice can be tried."""
KILLED_BY_THE_SYSTEM = """
import os, pathlib, sys
group = pathlib.Path(sys.argv[1])
(group / "cgroup.procs").write_text(str(os.getpid()))
from ipython_pgtimeout import run
kept = b"x" * 150_000_000
result = run(sys.argv[2], 30, oom_score_adj=int(sys.argv[3]))
print(result.returncode, flush=True)
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup with 250 MB."""
    made = CGROUP / f"pgtimeout-{os.getpid()}"
    try:
        made.mkdir()
        (made / "memory.limit_in_bytes").write_text(str(250 * MB))
    except OSError:
        pytest.skip("no cgroup can be made here")
    yield made
    for pid in (made / "cgroup.procs").read_text().split():
        os.kill(int(pid), 9)
    psutil.wait_procs([])
    for _ in range(200):
        try:
            made.rmdir()
            return
        except OSError:
            subprocess.run(["sleep", "0.02"], check=True)


@pytest.mark.parametrize(("score", "caller_survives"), [(1000, True), (0, False)])
def test_out_of_memory_the_command_dies_and_not_its_caller(
    group: Path, mark: str, score: int, caller_survives: bool
) -> None:
    """The caller has more memory than the command: by size alone, it would be the first."""
    command = f"exec {grows(mark, 200, most=130)}"
    caller = subprocess.run(
        [sys.executable, "-c", KILLED_BY_THE_SYSTEM, str(group), command, str(score)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if caller_survives:
        assert (caller.returncode, caller.stdout) == (0, "-9\n"), caller
    else:
        assert caller.returncode == -9, caller


# -- what can't be looked at --------------------------------------------------------------------------------------

HANGING = tampering_cell(
    "import time, ipython_pgtimeout.helper.observation as o; o.look_up = lambda pid, known=None: time.sleep(30)"
)
FACTS = "result = run({command!r}, 15, **{limits!r}); told(said=result.summary(), took_s=result.duration)"


@pytest.mark.parametrize(
    ("command", "limits", "said"),
    [
        ("exec {grows} 500 2000", {"memory": "300MB"}, "out of memory (3"),
        # All that is known is the sum, 20 times 40 MB: it counts when the shares don't come.
        ("{shares} 20 10 30", {"memory": "300MB"}, "out of memory ("),
        (HOGS, {"cpu": "1s"}, "out of processor time (1"),
    ],
    ids=["one", "many", "cpu"],
)
def test_limits_hold_while_a_look_hangs(mark: str, command: str, limits: dict[str, str], said: str) -> None:
    command = command.replace("{grows}", program("limits/grows.py", mark)).replace(
        "{shares}", program("limits/shares.py", mark)
    )
    told = run_isolated(HANGING + FACTS.format(command=command, limits=limits))
    assert told["said"].startswith(said), told
    assert told["took_s"] < 8, told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take proc(5) away")
def test_where_nothing_can_be_measured_a_limit_starts_nothing(mark: str) -> None:
    told = run_isolated(
        "import subprocess; subprocess.run(['umount', '-l', '/proc'], check=True)\n" + NO_PROC.format(mark=mark)
    )
    assert told["said"].startswith("could not start: memory, processor time and processes can't be measured here"), told
    assert told["started"] is False
    assert told["without"] == "exit code 0"


NO_PROC = """
import subprocess
subprocess.run(["umount", "-l", "/proc"], check=True)
result = run("touch {mark}", 5, memory="1GB", cwd="/tmp")
told(said=result.summary(), started=os.path.exists("/tmp/{mark}"), without=run("true", 5).summary().partition(" (")[0])
"""


def test_other_systems_are_measured_by_psutil() -> None:
    child = psutil.Popen([sys.executable, "-c", "x = b'x' * 50_000_000; input()"], stdin=subprocess.PIPE)
    with child:
        assert wait_until(lambda: portable.resident(child.pid).all_bytes > 50 * MB, 20)
        exact = linux.resident(child.pid).all_bytes
        assert portable.resident(child.pid).all_bytes == pytest.approx(exact, rel=0.1)
        cpu_s = linux.cpu_s(child.pid)
        assert cpu_s is not None
        assert portable.cpu_s(child.pid) == pytest.approx(cpu_s, abs=0.1)
        assert portable.name_of(child.pid) == linux.name_of(child.pid) == child.name()
        child.communicate(b"\n")
    for system in (linux, portable):
        assert (sum(system.resident(child.pid)), system.cpu_s(child.pid), system.name_of(child.pid)) == (0, None, "?")


# -- without limits -----------------------------------------------------------------------------------------------


def test_without_limits_nothing_is_due() -> None:
    from ipython_pgtimeout.helper.limiter import Limiter
    from ipython_pgtimeout.spec import make_spec

    limits = make_spec({"command": "true", "timeout": 1}).limits(0.0)
    assert Limiter(limits, None, None).due_at == math.inf  # type: ignore[arg-type]
