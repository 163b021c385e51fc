"""Output in the cell while a command runs: shown at once, in few messages, bounded, and as it was written."""

from __future__ import annotations

import contextlib
import re
import sys
import time

import psutil
import pytest

from .kernels import Kernel
from .watching import wait_until

PYTHON = f"{sys.executable} -S -E -u"


def test_output_is_shown_while_the_command_runs_even_a_partial_line(kernel: Kernel) -> None:
    reply = kernel.submit("%%timeout_shell 30\nprintf 'no newline'; printf err >&2; sleep 60")
    kernel.wait_for_text(reply, "no newline")
    kernel.wait_for_text(reply, "err")
    assert not reply.over
    kernel.interrupt()
    kernel.wait(reply)
    assert (reply.stdout, reply.stderr, reply.ename) == ("no newline", "err", "KeyboardInterrupt")


@pytest.mark.alone
def test_a_progress_bar_takes_few_messages_and_ends_in_its_last_frame(kernel: Kernel) -> None:
    bar = "import time\nfor n in range(10000): print(f'\\r{n + 1:5}/10000', end=''); time.sleep(0.0002)"
    reply = kernel.execute(f'%%timeout_shell 50\n{PYTHON} -c "{bar}"', 55)
    assert reply.status == "ok"
    assert reply.stdout.split("\r")[-1] == "10000/10000"
    assert reply.stdout.count("\r") == 10000
    assert reply.messages < 200


@pytest.mark.alone
def test_alternating_streams_are_batched(kernel: Kernel) -> None:
    reply = kernel.execute("%%timeout_shell 50\nfor n in {1..5000}; do echo o; echo e >&2; done", 55)
    assert reply.stdout == "o\n" * 5000
    assert reply.stderr == "e\n" * 5000
    assert reply.messages < 200


def test_order_between_the_streams_is_kept_with_pauses_or_one_descriptor(kernel: Kernel) -> None:
    """With a pause between writes, each is read before the next. With one descriptor, the order is exact."""
    script = "import os, select\nfor n in range(4):\n os.write(1 + n % 2, b'%d' % n); select.select([],[],[],.1)"
    shown = "seen = []\nimport sys\nfrom ipython_pgtimeout.magics import screen as m\n"
    patch = "m.print = lambda text, end, file, flush: seen.append((text, file is sys.stderr))"
    kernel.run(shown + patch)
    try:
        kernel.run(f'%%timeout_shell 30\n{PYTHON} -c "{script}"')
        pieces = kernel.value("seen")
    finally:
        kernel.run("del m.print")
    assert pieces == str([(f"{n}", bool(n % 2)) for n in range(4)])
    merged = kernel.run("%%timeout_shell 30\nexec 2>&1; for n in {1..500}; do echo $n; echo $n >&2; done")
    assert merged.stdout == "".join(f"{n}\n{n}\n" for n in range(1, 501))
    assert merged.stderr == ""


@pytest.mark.parametrize(
    ("script", "stdout"),
    [
        (r"for b in '\xe2' '\x82' '\xac' '\x20ok'; do printf $b; sleep 0.1; done", "€ ok"),
        (r"printf 'a\xff\xfeb\n'", "a\ufffd\ufffdb\n"),
        (r"printf 'nul\0nul'", "nul\0nul"),
        (r"printf 'cut \xe2\x82'", "cut \ufffd"),
        (r"printf '\033[31mred\033[0m\n'", "\x1b[31mred\x1b[0m\n"),
        ("(sleep 0.3; echo late) & echo soon", "soon\nlate\n"),
    ],
    ids=["split", "invalid", "nul", "incomplete", "ansi", "after the shell's exit"],
)
def test_text_arrives_as_it_was_written(kernel: Kernel, script: str, stdout: str) -> None:
    assert kernel.run(f"%%timeout_shell 30\n{script}").stdout == stdout


def test_output_during_the_grace_is_shown(kernel: Kernel) -> None:
    script = "trap 'echo last; echo words >&2; exit 0' TERM; echo ready; sleep 60 & wait"
    reply = kernel.execute(f"%%timeout_shell 1\n{script}")
    assert reply.ename == "CommandTimeout"
    assert reply.stdout == "ready\nlast\n"
    assert reply.stderr == "words\n"


def test_a_line_of_100_mb_without_a_newline_is_bounded_and_counted(kernel: Kernel) -> None:
    reply = kernel.run("%%timeout_shell --result r 50\nhead -c 100000000 /dev/zero | tr '\\0' x", 55)
    match = re.fullmatch(r"(x+)\n\[… ([\d,]+) bytes left out …\]\n(x+)", reply.stdout)
    assert match is not None
    assert len(match[1]) + len(match[3]) + int(match[2].replace(",", "")) == 100_000_000
    assert len(match[1] + match[3]) == 1_000_000
    assert "goes on" in reply.stderr
    assert kernel.value("r.truncated, r.stdout_bytes, r.stderr_bytes") == "(True, 100000000, 0)"


def test_head_and_tail_of_many_lines_are_whole_lines(kernel: Kernel) -> None:
    reply = kernel.run("%%timeout_shell --max-output 10KB --result r 50\nseq 1000000", 55)
    head, count, tail = re.split(r"\[… ([\d,]+) bytes left out …\]\n", reply.stdout)
    assert head.startswith("1\n2\n3\n")
    assert tail.endswith("999999\n1000000\n")
    numbers = [int(line) for line in tail.splitlines()]
    assert numbers == list(range(numbers[0], 1_000_001))
    kept = len(head.rstrip("\n")) + len(tail)
    assert abs(kept + int(count.replace(",", "")) - 6_888_896) <= 1  # the head may end within a line
    assert kernel.value("r.stdout_bytes") == "6888896"


def test_max_output_inf_shows_everything_and_config_sets_the_default(kernel: Kernel) -> None:
    whole = "".join(f"{n}\n" for n in range(1, 200_001))
    assert kernel.run("%%timeout_shell --max-output inf 50\nseq 200000", 55).stdout == whole
    kernel.run("%config PgTimeout.max_output = 'inf'")
    try:
        assert kernel.run("%%timeout_shell 50\nseq 200000", 55).stdout == whole
    finally:
        kernel.run("%config PgTimeout.max_output = '1MB'")
    assert len(kernel.run("%%timeout_shell 50\nseq 200000", 55).stdout) < len(whole)


@pytest.mark.alone
def test_a_flood_neither_fills_the_kernel_nor_stalls_the_child_nor_delays_the_stop_button(kernel: Kernel) -> None:
    kernel.run("%run_timed 5 seq 300000")  # what is allocated once is not growth
    before = psutil.Process(kernel.pid).memory_info().rss
    reply = kernel.submit("%%timeout_shell --result r 60\nyes")
    kernel.wait_for_text(reply, "goes on")
    yes = _descendant(kernel, "yes")
    written = 20 * 2**30  # even an eighth of it is too much to be kept in memory
    assert wait_until(lambda: _written_by(yes) > written / 8, 40), "the child is stalled"
    grown = psutil.Process(kernel.pid).memory_info().rss - before
    kernel.interrupt()
    kernel.wait(reply, 10)
    assert reply.ename == "KeyboardInterrupt"
    assert grown < 20e6
    assert int(kernel.value("r.stdout_bytes")) > written / 8
    assert len(reply.stdout) < 1_000_100


@pytest.mark.alone
def test_a_loop_of_commands_stays_below_the_rate_limit_of_a_server(kernel: Kernel) -> None:
    """All commands together: 1,000,000 bytes a second, measured over 3 s. Without a pace, 3.6 MB would take 0.4 s.
    A Jupyter Server itself is in tests/test_server.py."""
    loop = (
        "from IPython import get_ipython\nfor _ in range(4): get_ipython().run_line_magic('run_timed', '9 seq 145000')"
    )
    reply = kernel.submit(loop)
    sizes: list[tuple[float, int]] = []

    def shown_so_far() -> bool:
        known = sum(size for _, size in sizes)
        if len(reply.stdout) > known:
            sizes.append((time.monotonic(), len(reply.stdout) - known))
        return reply.over

    kernel.pump_until(shown_so_far, 40, reply, "to be over")
    assert sum(size for _, size in sizes) == 4 * 903_895
    for start, _ in sizes:
        assert sum(size for at, size in sizes if start <= at < start + 2.9) < 3_000_000


@pytest.mark.alone
def test_a_long_showing_does_not_hold_the_command_up_and_ends_with_the_stop_button(kernel: Kernel, mark: str) -> None:
    reply = kernel.submit("%%timeout_shell --max-output 40MB --result r 30\nseq 3000000; echo the end")
    kernel.pump_until(lambda: len(reply.stdout) > 2_000_000, 20, reply, "to show something")
    kernel.interrupt()
    pressed_s = time.monotonic()
    kernel.wait(reply, 20)
    assert time.monotonic() - pressed_s < 2.0, "version 0.1 sent the rest at once, and the server dropped it"
    assert reply.ename == "KeyboardInterrupt"
    assert len(reply.stdout) < 3_000_000
    assert re.fullmatch(r"\[pgtimeout\] the last 20\.\d MB of the output are not shown\n", reply.stderr)
    assert kernel.value("r.stdout.endswith('the end\\n'), r.stdout_bytes, r.duration < 5") == "(True, 22888904, True)"


def _descendant(kernel: Kernel, name: str) -> psutil.Process:
    found: list[psutil.Process] = []

    def look() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.extend(p for p in psutil.Process(kernel.pid).children(recursive=True) if p.name() == name)
        return bool(found)

    assert wait_until(look, 10)
    return found[0]


def _written_by(process: psutil.Process) -> int:
    return int(process.io_counters().write_chars)
