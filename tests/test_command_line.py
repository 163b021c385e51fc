"""``pgtimeout``: what GNU timeout does with the same words, and what it does not have."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import ipython_pgtimeout
from ipython_pgtimeout.command_line import arguments, reference
from ipython_pgtimeout.command_line.arguments import Arguments, UsageError, parse
from ipython_pgtimeout.spec import SPEC_FIELDS

from .command_lines import PGTIMEOUT, call, default_signals, installed
from .watching import marked, survivors, wait_until

# -- the same as GNU timeout ------------------------------------------------------------------------------------

LIKE_GNU = [
    "9 true",
    "1d sh -c 'exit 3'",
    "0 true",
    "0.2 sleep 9",
    ".2 sleep 9",
    "-s KILL 0.2 sleep 9",
    "--preserve-status -sINT 0.2 sleep 9",
    "-s 0 -k 0.3 0.2 sleep 9",
    "-k0.3 2 sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'",
    "-v -s 0 -k 0.1 0.2 sleep 9",
    "--verbose --signal=TERM 0.2 sleep 9",
    "-vs HUP 0.2 sleep 9",
    "-vk 1 0.2 sleep 9",
    "--kill-aft 1 --pres 0.2 sleep 9",
    "9 sh -c 'kill -SEGV $$'",
    "9 sh -c 'kill -KILL $$'",
    "9 sh -c 'kill -INT $$'",
    "9 no-such-command",
    "9 /",
    "9 .",
    "-- 9 true",
    "9 -- true",
    "9 sh -c 'echo out; echo err >&2'",
    "9 sh -c 'echo $0 $*' -k 5",
    "99999999999999999999d true",
    "2.34e+5d true",
    "1.18973e+4932 true",
    "2 sh -c 'trap \"exit 7\" TERM; while :; do :; done'",  # with a child, sh would say at times that it was terminated
    "--preserve-status 2 sh -c 'trap \"exit 7\" TERM; while :; do :; done'",
    "--foreground 0.2 sleep 9",
    "--foreground -s 0 -k 0.2 0.2 sleep 9",
]
REFUSED = [
    "",
    "9",
    "abc true",
    "-1 true",
    "' -0.1' true",
    "-- -1 true",
    "42D true",
    "1_000 true",
    "nan true",
    "-k abc 9 true",
    "-s NOSIGNAL 9 true",
    "-x 9 true",
    "--no-such 9 true",
    "--foreground=1 9 true",
    "-k",
]


def _both(line: str, directory: Path) -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    gnu = shutil.which("timeout")
    if gnu is None or b"GNU" not in subprocess.run([gnu, "--version"], capture_output=True).stdout:
        pytest.skip("no GNU timeout here")
    first, second = (
        subprocess.run(
            ["sh", "-c", f"{each} {line}"],
            capture_output=True,
            text=True,
            timeout=30,
            cwd=directory,
            preexec_fn=default_signals,
        )
        for each in (" ".join(PGTIMEOUT), gnu)
    )
    return first, second


@pytest.mark.parametrize("line", LIKE_GNU)
def test_exit_code_and_output_are_those_of_gnu_timeout(line: str, tmp_path: Path) -> None:
    ours, theirs = _both(line, tmp_path)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout), (ours, theirs)
    # At the deadline GNU timeout is killed with its command, and the shell that has started it says so.
    texts = [each.stderr.removesuffix("Killed\n") for each in (ours, theirs)]
    said = [re.sub("[‘’'`]", "'", text.replace("pgtimeout: ", "timeout: ")) for text in texts]
    mine, others = (re.sub(r"^.*/timeout: ", "timeout: ", text, flags=re.MULTILINE) for text in said)
    if "can't run" not in mine:  # in GNU's words: failed to run command
        assert mine.replace("signal 0", "signal EXIT") == others.replace("signal 0", "signal EXIT")
    else:
        assert mine.rpartition(": ")[2] == others.rpartition(": ")[2]


@pytest.mark.parametrize("line", REFUSED)
def test_what_gnu_timeout_refuses_is_refused_in_one_line_with_an_example(line: str, tmp_path: Path) -> None:
    ours, theirs = _both(line, tmp_path)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, "") == (125, ""), (ours, theirs)
    assert len(ours.stderr.splitlines()) == 1
    assert ours.stderr.endswith("for example: pgtimeout 30s make test\n")


@pytest.mark.parametrize("line", ["1e-10000 sleep 9", "-p 0.2 sleep 9", "-fpsINT 0.2 sleep 9"])
def test_what_only_newer_versions_of_gnu_timeout_know(line: str) -> None:
    codes = {"1e-10000": 124, "-p": 128 + signal.SIGTERM, "-fpsINT": 128 + signal.SIGINT}
    assert call(*line.split()).returncode == codes[line.split()[0]]


def test_a_script_without_a_first_line_is_run_by_the_shell(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("echo run by sh: $1\n")
    (tmp_path / "script").chmod(0o755)
    assert call("9", tmp_path / "script", "an argument").stdout == "run by sh: an argument\n"


# -- the declaration --------------------------------------------------------------------------------------------


def test_the_options_are_those_that_are_declared() -> None:
    declared = {flag: name for name in reference.SHARED for flag in SPEC_FIELDS[name].flags}
    assert declared == arguments._VALUED
    defaults = Arguments()
    for name in reference.SHARED:
        assert getattr(defaults, name) == SPEC_FIELDS[name].parsed_default, name


@pytest.mark.parametrize("text", ["30", "1.5", ".5", "2m", "1h", "1d", "500ms", "5m30s", "inf", "1e3"])
def test_a_duration_is_what_it_is_in_a_cell(text: str) -> None:
    assert parse([text, "true"]).timeout == SPEC_FIELDS["timeout"].parsed(text)
    if text != "inf":
        assert parse(["-k", text, "1", "true"]).kill_after == SPEC_FIELDS["timeout"].parsed(text)


def test_options_end_at_the_command() -> None:
    given = parse(["-vk5", "--memory=2GB", "--idle", "30s", "--log", "x", "9", "make", "-k", "--", "-v"])
    assert (given.verbose, given.kill_after, given.memory, given.idle, given.log) == (True, 5, 2e9, 30, "x")
    assert (given.timeout, given.command) == (9, ["make", "-k", "--", "-v"])


def test_a_cut_option_must_be_clear() -> None:
    with pytest.raises(UsageError, match="--ver can be --verbose or --version"):
        parse(["--ver", "9", "true"])


def test_the_reference_and_the_version(tmp_path: Path) -> None:
    told = call("--help")
    assert (told.returncode, told.stderr) == (0, "")
    for flag in [*arguments._SWITCHES, *arguments._VALUED]:
        assert re.search(rf"^  (-., )?{flag}\b", told.stdout, re.MULTILINE), flag
    assert call("--version").stdout == f"pgtimeout (ipython_pgtimeout) {ipython_pgtimeout.__version__}\n"


# -- what the command gets --------------------------------------------------------------------------------------


def test_the_command_gets_the_arguments_and_the_environment_as_they_are(tmp_path: Path) -> None:
    """Arguments are bytes. Python would add LC_CTYPE in the locale C: PEP 538."""
    environment = {b"PATH": os.environb[b"PATH"], b"BYTES": b"\xff\xfe", b"LANG": b"C"}
    shown = [
        subprocess.run([*prefix, "env", "-0"], env=environment, capture_output=True, check=True).stdout
        for prefix in ([*PGTIMEOUT, "9"], list[str]())
    ]
    assert sorted(shown[0].split(b"\0")) == sorted(shown[1].split(b"\0"))
    command = [*map(os.fsencode, [*PGTIMEOUT, "9", "printf", "%s|"]), b"\xff", b"\xc3\xa4", b""]
    assert subprocess.run(command, env=environment, capture_output=True).stdout == b"\xff|\xc3\xa4||"


def test_the_command_gets_open_descriptors_and_no_others(tmp_path: Path) -> None:
    """A substituted process, a lock or make's job server is such a descriptor."""
    lines = f"exec 7<{PGTIMEOUT[-1]}; {' '.join(PGTIMEOUT)} 9 ls /proc/self/fd"
    shown = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert set(shown.stdout.split()) - {"0", "1", "2", "7"} <= {"3"}, shown  # 3 is the directory itself
    assert "7" in shown.stdout.split()
    same = subprocess.run(["bash", "-c", f"{' '.join(PGTIMEOUT)} 9 cat <(echo one) <(echo two)"], capture_output=True)
    assert same.stdout == b"one\ntwo\n"


def test_closed_standard_descriptors_are_not_taken_for_our_own(tmp_path: Path) -> None:
    line = f"{' '.join(PGTIMEOUT)} 9 sh -c 'ls -l /proc/self/fd' <&- 2>&-"
    shown = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert shown.returncode == 0
    assert "socket" not in shown.stdout


def test_the_command_is_started_with_the_signals_as_they_were(tmp_path: Path) -> None:
    """Ignored and blocked ones, but for what Python ignores itself: the script tells which these are."""

    def prepare() -> None:
        default_signals()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR1, signal.SIGALRM})

    show = ["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"]
    pgtimeout = installed(tmp_path)
    for preparation in (default_signals, prepare):
        shown = [
            subprocess.run([*prefix, *show], capture_output=True, text=True, preexec_fn=preparation).stdout
            for prefix in (list[str](), [os.fspath(pgtimeout), "9"])
        ]
        assert shown[0] == shown[1]


def test_the_command_leads_its_own_session_and_no_child_of_ours_is_seen(tmp_path: Path) -> None:
    pid, sid, pgid = call("9", "sh", "-c", "echo $$ $(ps -o sid=,pgid= -p $$)").stdout.split()
    assert pid == sid == pgid
    shown = call("--foreground", "9", "sh", "-c", "echo $(ps -o sid=,pgid= -p $$)").stdout.split()
    assert list(map(int, shown)) == [os.getsid(0), os.getpgid(0)]


# -- what GNU timeout does not have -----------------------------------------------------------------------------


def test_what_is_left_is_waited_for_or_ended_or_left(mark: str) -> None:
    script = f"MARK={mark} sleep 30 & exit 4"
    waited = call("-k", "1", "2", "sh", "-c", script)
    assert (waited.returncode, waited.stdout) == (124, "")
    assert re.fullmatch(
        r"pgtimeout: 'sh' has ended \(exit code 4\); waiting for 1 process: sleep \(\d+\); with --leftovers leave or "
        r"kill pgtimeout does not wait\n",
        waited.stderr,
    )
    assert not survivors(mark)
    killed = call("--leftovers", "kill", "20", "sh", "-c", script)
    assert (killed.returncode, killed.stderr) == (4, "")
    assert not survivors(mark)
    with open(os.devnull, "w") as nothing:
        left = call("--leftovers", "leave", "20", "sh", "-c", script, capture_output=False, stdout=nothing)
    assert left.returncode == 4
    assert len(survivors(mark)) >= 1


def test_silence_ends_the_command_and_is_said() -> None:
    silent = call("--idle", "1", "30", "sh", "-c", "echo out; echo err >&2; sleep 20; echo never")
    assert (silent.returncode, silent.stdout) == (124, "out\n")
    first, second = silent.stderr.splitlines()
    assert first == "err"
    assert re.fullmatch(
        r"pgtimeout: ended after 1 s without output: SIGTERM to 2 processes; all are gone \(\d\.\d s\)", second
    )


def test_output_is_a_sign_of_life() -> None:
    alive = call("--idle", "3", "30", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done")
    assert (alive.returncode, alive.stderr) == (0, "")


def test_a_log_gets_every_byte_and_so_do_the_outputs(tmp_path: Path) -> None:
    log = tmp_path / "make.log"
    script = "head -c 3000000 /dev/zero; echo err >&2; echo out"
    done = subprocess.run(
        [*PGTIMEOUT, "--log", os.fspath(log), "30", "sh", "-c", script], capture_output=True, timeout=40
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, bytes(3_000_000) + b"out\n", b"err\n")
    assert sorted(log.read_bytes()) == sorted(done.stdout + done.stderr)


def test_a_slow_reader_delays_no_deadline(tmp_path: Path, mark: str) -> None:
    command = [*PGTIMEOUT, "--log", f"{tmp_path}/log", "-k", "0.5", "1", "sh", "-c", f"MARK={mark} yes; true"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == "y\n"
        is_gone = wait_until(lambda: "yes" not in (each.name() for each in marked(mark)), 10)
        assert is_gone, "nobody reads, and the deadline must hold all the same"
        process.stdout.read()
    assert process.returncode == 124


def test_an_output_that_nobody_reads_any_more_is_the_commands_own_matter(tmp_path: Path) -> None:
    line = (
        f"{{ {' '.join(PGTIMEOUT)} --log {tmp_path}/log 9 sh -c 'seq 100000; exit 3'; echo $? >{tmp_path}/code; }} | :"
    )
    subprocess.run(["sh", "-c", line], timeout=30, check=True)
    assert (tmp_path / "code").read_text() == "3\n"
    assert (tmp_path / "log").read_text().endswith("100000\n")


@pytest.mark.parametrize("words", [["--log", "{}/no/log"], ["--leftovers=leave", "--log", "{}/log"], ["--memory", "x"]])
def test_what_cannot_be_is_said_before_anything_runs(words: list[str], tmp_path: Path) -> None:
    refused = call(*(word.format(tmp_path) for word in words), "9", "touch", tmp_path / "started")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (125, 1)
    assert not (tmp_path / "started").exists()


def test_a_limit_of_memory_ends_the_command_and_is_said() -> None:
    grows = call("--memory", "100MB", "30", sys.executable, "-c", "held = 'x' * 400_000_000; input()", stdin=-1)
    assert grows.returncode == 124
    assert re.match(
        r"pgtimeout: out of memory \(\d+ of 100 MB\): python\S* \(\d+\) had \d+ MB; SIGTERM to", grows.stderr
    )


def test_without_proc_of_its_own_a_limit_starts_nothing(tmp_path: Path) -> None:
    unshare = ["unshare", "-Urpf" if os.geteuid() else "-pf", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespace can be made here")
    command = [*unshare, *PGTIMEOUT, "--cpu", "9", "9", "touch", f"{tmp_path}/started"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert (refused.returncode, "can't be measured here" in refused.stderr) == (125, True)
    assert not (tmp_path / "started").exists()


# -- how it is installed ----------------------------------------------------------------------------------------


def test_the_script_finds_python_and_the_package_through_links(tmp_path: Path) -> None:
    pgtimeout = installed(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "timeout").symlink_to("../bin/link")
    (tmp_path / "bin" / "link").symlink_to("pgtimeout")
    environment = {**os.environ, "PATH": f"{tmp_path}/elsewhere:{os.environ['PATH']}"}
    done = subprocess.run(["timeout", "0.2", "sleep", "9"], env=environment)
    assert done.returncode == 124
    said = subprocess.run(["timeout", "abc", "true"], env=environment, capture_output=True, text=True)
    assert said.stderr.startswith("timeout: the duration can't be 'abc'")
    (tmp_path / "bin" / "python3").unlink()  # as for `pip install --user`: Python is somewhere else
    (tmp_path / "elsewhere" / f"python3.{sys.version_info.minor}").symlink_to(sys.executable)
    assert subprocess.run([pgtimeout, "9", "true"], env=environment).returncode == 0


def test_the_users_settings_for_python_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "signal.py").write_text("raise SystemExit('a file of the directory was imported')")
    (tmp_path / "os.py").write_text("raise SystemExit('a file of the directory was imported')")
    environment = {**os.environ, "PYTHONPATH": os.fspath(tmp_path), "PYTHONHOME": "/nowhere", "PYTHONVERBOSE": "1"}
    pgtimeout = installed(tmp_path)
    done = subprocess.run(
        [pgtimeout, "0.5", "sleep", "9"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (124, "", "")


def test_python_can_run_it_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "ipython_pgtimeout", "0.3", "sleep", "9"], timeout=40)
    assert done.returncode == 124


def test_the_installed_script_runs_the_installed_package() -> None:
    pgtimeout = Path(sys.executable).with_name("pgtimeout")
    if not pgtimeout.exists():
        pytest.skip("the package is not installed")
    assert subprocess.run([pgtimeout, "0.3", "sleep", "9"], timeout=40).returncode == 124
    told = subprocess.run([pgtimeout, "--version"], capture_output=True, text=True, timeout=40)
    assert told.stdout == f"pgtimeout (ipython_pgtimeout) {version('ipython_pgtimeout')}\n"
