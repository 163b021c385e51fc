"""Complete output by --log, --out and --err, input by --stdin, and the end of a silent command by --idle."""

from __future__ import annotations

import hashlib
import os
import select
import threading
from pathlib import Path

import pytest

from ipython_pgtimeout import CommandTimeout, InputError, run

from .kernels import Kernel
from .watching import marked, wait_until, wait_until_gone

BINARY = "head -c 3000000 /dev/urandom | tee {copy}"


def test_a_log_is_byte_for_byte_what_was_written(tmp_path: Path) -> None:
    copy, log = tmp_path / "copy", tmp_path / "log"
    result = run(BINARY.format(copy=copy), 30, log=log)
    assert log.read_bytes() == copy.read_bytes()
    assert result.stdout_bytes == 3_000_000
    assert result.truncated
    assert result.log_error == ""


def test_a_log_holds_both_streams_in_the_order_of_arrival(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run("for n in 1 2 3; do echo o$n; sleep 0.1; echo e$n >&2; sleep 0.1; done", 30, log=log)
    assert log.read_text() == "o1\ne1\no2\ne2\no3\ne3\n"


def test_a_log_is_written_at_once_and_survives_an_interrupt(kernel: Kernel, tmp_path: Path, mark: str) -> None:
    log = tmp_path / "make.log"
    reply = kernel.submit(f"%%timeout_shell --log {log} 30\necho building; sleep 60; : {mark}")
    assert wait_until(lambda: log.exists() and log.read_text() == "building\n", 10)
    assert marked(mark), "the log was written, but not while the command ran"
    kernel.interrupt()
    kernel.wait(reply)
    assert log.read_text() == "building\n"
    assert wait_until_gone(mark, 5) == []


def test_a_log_survives_a_timeout_and_holds_the_output_during_the_grace(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run("trap 'echo last; exit' TERM; echo first; sleep 60 & wait", 2, log=log)
    assert log.read_text() == "first\nlast\n"


@pytest.mark.parametrize(
    ("path", "words"),
    [("nowhere/x.log", "No such file"), (".", "Is a directory"), ("fifo", "nobody reads"), ("a\0b", "null ")],
)
def test_a_log_that_cannot_be_opened_is_an_error_before_anything_runs(tmp_path: Path, path: str, words: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError, match=f"log .*{words}.*; write for example log='make.log'"):
        run(f"touch {tmp_path}/started", 30, log=f"{tmp_path}/{path}")
    assert not (tmp_path / "started").exists()


def test_a_log_is_created_before_the_command_starts(tmp_path: Path) -> None:
    assert run(f"ls {tmp_path}", 30, log=tmp_path / "there").stdout == "there\n"


def test_a_full_disk_causes_one_warning_and_the_command_goes_on(kernel: Kernel) -> None:
    reply = kernel.run("%%timeout_shell --log /dev/full --result r 30\nseq 1000; sleep 0.2; seq 1000")
    assert reply.stdout.count("\n") == 2000
    (warning,) = reply.stderr.splitlines()
    assert warning.endswith("--log /dev/full is incomplete from here on: No space left on device")
    assert kernel.value("r.log_error, r.returncode") == "('No space left on device', 0)"


def test_a_log_whose_reader_closes_it_is_reported_as_incomplete(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    go_on = tmp_path / "go-on"
    script = f"echo one; until [ -e {go_on} ]; do sleep 0.05; done; echo two; echo three"

    def close_reader() -> None:
        assert wait_until(lambda: os.read(reader, 100) == b"one\n" if _has_data(reader) else False, 10)
        os.close(reader)
        go_on.touch()

    thread = threading.Thread(target=close_reader)
    thread.start()
    result = run(script, 30, log=fifo)
    thread.join()
    assert result.stdout == "one\ntwo\nthree\n"
    assert (result.returncode, result.log_error) == (0, "Broken pipe")


def _has_data(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_out_and_err_hold_the_whole_text_and_the_cell_shows_nothing(kernel: Kernel) -> None:
    reply = kernel.run("%%timeout_shell --out o --err e 30\nseq 400000; seq 300000 >&2")
    assert (reply.stdout, reply.stderr) == ("", "")
    assert kernel.value("len(o), o[-7:], len(e), e[-7:]") == "(2688895, '400000\\n', 1988895, '300000\\n')"


def test_out_alone_leaves_stderr_in_the_cell_and_is_set_on_failure_too(kernel: Kernel) -> None:
    reply = kernel.execute("%%timeout_shell --out o2 1\necho kept; echo shown >&2; sleep 60")
    assert reply.ename == "CommandTimeout"
    assert (reply.stdout, reply.stderr) == ("", "shown\n")
    assert kernel.value("o2") == "'kept\\n'"


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_stdin_of_any_size_reaches_the_command(size: int) -> None:
    data = os.urandom(size)
    result = run("sha256sum", 30, stdin=data)
    assert result.stdout.split()[0] == hashlib.sha256(data).hexdigest()


def test_stdin_does_not_deadlock_when_the_command_writes_before_it_reads() -> None:
    data = b"x" * 5_000_000
    result = run("seq 2000000; wc -c; seq 2000000", 30, stdin=data, max_output="inf")
    assert "\n5000000\n" in result.stdout
    assert result.stdout_bytes == 2 * 14888896 + 8


@pytest.mark.parametrize("script", ["true", "head -c 1", "exec <&-; sleep 0.3"])
def test_a_command_that_does_not_read_its_stdin_ends_normally(script: str) -> None:
    result = run(script, 30, stdin=b"y" * 5_000_000)
    assert (result.reason, result.returncode) == ("exited", 0)


def test_a_deadline_is_kept_while_stdin_is_not_read() -> None:
    assert run("sleep 60", 0.5, stdin=b"y" * 5_000_000).timed_out


def test_a_slow_reader_gets_all_of_stdin() -> None:
    slow = "for n in 1 2 3 4; do sleep 0.1; head -c 1000000 | wc -c; done; cat | wc -c"
    assert run(slow, 30, stdin=b"z" * 4_500_000).stdout == "1000000\n" * 4 + "500000\n"


def test_stdin_comes_from_a_variable_and_text_is_encoded_as_utf8(kernel: Kernel) -> None:
    kernel.run("text = 'zwei\\neins €\\n'; raw = b'\\xff\\x00'; number = 3")
    assert kernel.run("%run_timed --stdin text 30 sort").stdout == "eins €\nzwei\n"
    assert kernel.run("%run_timed --stdin raw 30 od -An -tx1").stdout.split() == ["ff", "00"]
    refused = {"number": "a value of type int can't be fed", "missing": "there is no Python variable missing"}
    for name, words in refused.items():
        reply = kernel.execute(f"%run_timed --stdin {name} 30 cat")
        assert reply.status == "error"
        assert words in reply.text


@pytest.mark.parametrize("prompt", ["read line", "cat", "git commit --dry-run -F -", "read -p 'Password: ' -s x"])
def test_without_stdin_a_command_that_prompts_ends(prompt: str) -> None:
    result = run(prompt, 20)
    assert result.reason == "exited"
    assert result.duration < 10


def test_the_result_does_not_wait_for_output_of_a_process_left_running(mark: str) -> None:
    result = run(f"bash -c 'exec -a {mark} yes' & echo started", 30, leftovers="leave")
    assert result.duration < 10
    assert result.survivors
    assert wait_until(lambda: marked(mark), 5)  # execve(2) hides the mark for a moment


def test_silence_ends_a_command_and_is_reported(kernel: Kernel, mark: str) -> None:
    reply = kernel.execute(f"%%timeout_shell --idle 500ms --result r 30\necho once; sleep 60; : {mark}")
    assert reply.ename == "CommandTimeout"
    assert "ended after 0.5 s without output: SIGTERM to " in reply.evalue
    assert kernel.value("r.reason, r.timed_out, 0.5 <= r.duration < 10") == "('idle', True, True)"
    assert wait_until_gone(mark, 5) == []


def test_a_command_that_writes_regularly_is_not_ended_for_silence() -> None:
    result = run("for n in {1..12}; do printf .; sleep 0.2; done", 30, idle=1)
    assert (result.reason, result.stdout) == ("exited", "." * 12)


def test_check_raises_for_silence_with_the_limit_that_was_exceeded() -> None:
    with pytest.raises(CommandTimeout) as caught:
        run("sleep 60", 30, idle="300ms", check=True)
    assert caught.value.timeout == 0.3
    assert caught.value.result.reason == "idle"
