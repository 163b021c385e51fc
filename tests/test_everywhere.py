"""%timeout_shell 10m: a deadline for `!`, `x = !`, `%sx`, `%%bash` and the other script magics, and no survivors.

That all else stays as IPython has it is tested in `test_everywhere_same`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipython_pgtimeout import spec

from .kernels import LOAD, Kernel, Reply
from .tallies import SURVIVORS, Combination
from .test_magics import _completions, _paged
from .watching import program, survivors, wait_until, wait_until_gone

NASTY = ("ignores.sh", "own_session.sh", "daemon.py", "hidden_daemon.py", "stopped_job.sh")
SOON_S = 5.0
"""How long a guard may take after the death of its kernel: the grace, and some time because the machine is busy."""
FORMS = {
    "!": "!{line}",
    "!!": "!!{line}",
    "x = !": "x = !{line}",
    "%sx": "%sx {line}",
    "%%system": "%%system\n{line}",
    "system": "get_ipython().system({line!r})",
    "getoutput": "get_ipython().getoutput({line!r})",
    "%%bash": "%%bash\n{line}",
    "%%sh": "%%sh\n{line}",
    "%%bash --out": "%%bash --no-raise-error --out o --err e\n{line}",
    "%%python3": "%%python3 -S\nimport os; os.system({line!r})",
    "%%script": "%%script sh -c {line!r}\nfed",
    "an alias": "%alias some {line}\n%some",
}


@pytest.fixture
def guarded(kernel: Kernel) -> Iterator[Kernel]:
    """The kernel of this file. The test turns it on, and it is off afterwards."""
    yield kernel
    kernel.run("%timeout_shell off")


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# -- endings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_deadline_ends_every_form_and_stops_the_notebook(guarded: Kernel, mark: str, form: str) -> None:
    guarded.run("%timeout_shell -k 0.3 0.4")
    cell = form.format(line=f"MARK={mark} sleep 100; true")
    reply = guarded.execute(cell + "\nprint('never')" * cell.startswith("!"))
    assert not survivors(mark)
    assert reply.ename == "CommandTimeout"
    assert reply.evalue.startswith("timed out after 0.4 s: SIGTERM to ")
    assert len(_without_colours(reply.traceback).splitlines()) == 1
    assert "never" not in reply.stdout


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_stop_button_ends_every_form_and_raises(guarded: Kernel, mark: str, form: str) -> None:
    guarded.run("%timeout_shell 60")
    reply = guarded.submit(form.format(line=f"MARK={mark} sleep 100; true"))
    assert wait_until(lambda: survivors(mark), 20)
    guarded.interrupt()
    guarded.wait(reply)
    assert not survivors(mark)
    assert reply.ename == "KeyboardInterrupt"
    assert "interrupted: SIGINT to " in reply.evalue


def test_silence_and_signals_are_those_of_the_options(guarded: Kernel) -> None:
    guarded.run("%timeout_shell 60 --idle 0.4 -s INT")
    reply = guarded.execute("!echo heard; sleep 100")
    assert reply.stdout == "heard\r\n"
    assert reply.evalue.startswith("ended after 0.4 s without output: SIGINT to ")
    assert guarded.value("_exit_code") == "-2"


def test_what_was_captured_until_a_deadline_is_kept(guarded: Kernel) -> None:
    guarded.run("%timeout_shell 1")
    reply = guarded.execute("%%bash --out o --err e\necho out; echo err >&2; sleep 100")
    assert (reply.ename, reply.stdout, reply.stderr) == ("CommandTimeout", "", "")
    assert guarded.value("o, e") == r"('out\n', 'err\n')"
    reply = guarded.execute("try:\n    x = !echo out; sleep 100\nexcept Exception as error:\n    r = error.result\n")
    assert guarded.value("r.stdout, r.command") == r"('out\n', 'echo out; sleep 100')"


@pytest.mark.parametrize("form", ["!", "%%bash"])
def test_output_comes_while_the_command_runs(guarded: Kernel, tmp_path: Path, form: str) -> None:
    guarded.run("%timeout_shell 60")
    script = f"echo first; until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo last"
    reply = guarded.submit(FORMS[form].format(line=script))
    guarded.wait_for_text(reply, "first")
    assert "last" not in reply.stdout
    (tmp_path / "go").touch()
    assert guarded.wait(reply).stdout.split() == ["first", "last"]
    assert not reply.displayed, "IPython shows no status"


# -- survivors ------------------------------------------------------------------------------------------------


def _start(kernel: Kernel, mark: str, form: str, after: str = "wait") -> Reply:
    """All the nasty programs at once. Returns when they are ready."""
    line = " & ".join([*(program(name, mark) for name in NASTY), after])
    reply = kernel.submit(FORMS[form].format(line=line))
    kernel.wait_for_text(reply, "ready", times=len(NASTY))
    return reply


def _assert_none_left(mark: str, form: str, ending: str, within_s: float = 0.0) -> None:
    left = wait_until_gone(mark, within_s)
    for name in NASTY:
        SURVIVORS.append(Combination(name, f"{form} {ending}", 1, sum(name in each for each in left)))
    assert not left, "\n".join(left)


@pytest.mark.parametrize("form", ["!", "%%bash"])
def test_nothing_survives_a_deadline(guarded: Kernel, mark: str, form: str) -> None:
    guarded.run("%timeout_shell 3 --kill-after 0.3")
    reply = guarded.wait(_start(guarded, mark, form))
    _assert_none_left(mark, form, "deadline")
    assert reply.ename == "CommandTimeout"
    assert "all are gone" in reply.evalue


@pytest.mark.parametrize("form", ["!", "%%bash"])
def test_nothing_survives_an_interrupt(guarded: Kernel, mark: str, form: str) -> None:
    guarded.run("%timeout_shell 60 --kill-after 0.3")
    reply = _start(guarded, mark, form)
    guarded.interrupt()
    guarded.wait(reply)
    _assert_none_left(mark, form, "interrupt")
    assert reply.ename == "KeyboardInterrupt"


@pytest.mark.parametrize("form", ["!", "%%bash"])
def test_nothing_survives_the_exit_of_the_shell(guarded: Kernel, mark: str, tmp_path: Path, form: str) -> None:
    guarded.run("%timeout_shell 60 --kill-after 0.3 --leftovers kill")
    reply = _start(guarded, mark, form, f"until [ -e {tmp_path}/now ]; do sleep 0.05; done")
    assert len(survivors(mark)) >= len(NASTY)
    (tmp_path / "now").touch()
    guarded.wait(reply)
    _assert_none_left(mark, form, "exit of the shell")
    assert reply.status == "ok"
    assert re.fullmatch(r"\[pgtimeout\] exit code 0; leftovers ended: SIGTERM to .*; all are gone .*\n", reply.stderr)


@pytest.mark.parametrize("form", ["!", "%%bash"])
def test_nothing_survives_sigkill_of_the_kernel(fresh_kernel: Kernel, mark: str, form: str) -> None:
    fresh_kernel.run("%timeout_shell 60 --kill-after 0.3")
    _start(fresh_kernel, mark, form)
    fresh_kernel.kill9()
    _assert_none_left(mark, form, "SIGKILL of the kernel", SOON_S)


@pytest.mark.parametrize("form", ["!", "!!", "%%bash"])
def test_without_it_a_daemon_survives(guarded: Kernel, mark: str, form: str) -> None:
    """The negative control: IPython's own commands leave behind what the tests above look for."""
    line = program("hidden_daemon.py", mark) + " > /dev/null 2>&1"
    guarded.run("%timeout_shell 2 -k 0.3 --leftovers kill")
    guarded.run(FORMS[form].format(line=line))
    assert not survivors(mark)
    guarded.run("%timeout_shell off")
    guarded.run(FORMS[form].format(line=line))
    assert wait_until(lambda: survivors(mark), 5)
    assert wait_until_gone(mark, 1.0)


@pytest.mark.parametrize("form", ["!", "x = !", "%%bash"])
def test_a_command_is_waited_for_as_a_whole_unless_leftovers_are_left(guarded: Kernel, mark: str, form: str) -> None:
    cell = FORMS[form].format(
        line=f"(setsid sh -c 'touch up; MARK={mark} sleep 1.5' > /dev/null 2>&1 &) ; "
        "until [ -e up ]; do sleep 0.02; done; rm up"
    )
    guarded.run("%timeout_shell 60")
    reply = guarded.run(cell)
    assert not survivors(mark)
    assert re.fullmatch(
        r"\[pgtimeout\] the shell has ended .*; waiting for \d process.*leave or kill .*\n", reply.stderr
    )
    guarded.run("%timeout_shell 60 --leftovers leave")
    reply = guarded.run(cell)
    assert survivors(mark)
    assert reply.stderr.startswith("[pgtimeout] exit code 0; left running: ")


# -- options --------------------------------------------------------------------------------------------------


def test_a_log_has_the_output_of_all_commands(guarded: Kernel, tmp_path: Path) -> None:
    guarded.run(f"%timeout_shell 30 --log {tmp_path}/log")
    for cell in ("!echo one", "x = !echo two", "%%bash --out o\necho three; echo err >&2"):
        guarded.run(cell)
    assert sorted((tmp_path / "log").read_bytes().split(b"\n")) == [b"", b"err", b"one\r", b"three", b"two"]


def test_output_is_bounded_only_if_that_is_asked(guarded: Kernel) -> None:
    guarded.run("%timeout_shell 30")
    assert len(guarded.run("!seq 300000").stdout) > 2_000_000
    guarded.run("%timeout_shell 30 --max-output 10k")
    reply = guarded.run("!seq 300000")
    assert len(reply.stdout) < 20_000
    assert "bytes left out" in reply.stdout
    assert guarded.value("len(get_ipython().getoutput('seq 300000'))") == "300000"
    guarded.run("%%bash --out o\nseq 300000")
    assert guarded.value("o.count(chr(10))") == "300000"


def test_configured_options_hold_here_too(fresh_kernel: Kernel) -> None:
    fresh_kernel.run("%config PgTimeout.signal = 'INT'\n%config PgTimeout.strict = True\n%timeout_shell 2")
    assert "SIGINT to" in fresh_kernel.execute("!false; sleep 100").evalue
    fresh_kernel.run("%config PgTimeout.signal = 'HUP'\n%timeout_shell 2")
    assert "SIGHUP to" in fresh_kernel.execute("!false; sleep 100").evalue


def test_a_script_in_the_background_is_a_job(guarded: Kernel, mark: str) -> None:
    guarded.run("%timeout_shell 2 -k 0.3")
    guarded.run(f"%%bash --bg --proc late\nMARK={mark} sleep 100; true")
    assert "late" in guarded.value("%timed_jobs")
    assert guarded.value("await late.wait(), late.job.result.reason") == "(-15, 'timeout')"
    assert not survivors(mark)
    guarded.run("%timeout_shell 60")
    guarded.run(f"%%bash --bg --proc killed\n: {mark}; trap '' INT TERM; sleep 100; true")
    guarded.run("killed.kill()")
    assert guarded.value("await killed.wait()") == "-9"


def test_killbgscripts_ends_jobs_too(guarded: Kernel, mark: str) -> None:
    guarded.run("%timeout_shell 60 -k 0.3")
    guarded.run(f"%%bash --bg --proc one\nMARK={mark} setsid sleep 100; true")
    assert wait_until(lambda: survivors(mark), 10)
    guarded.run("%killbgscripts")
    assert guarded.value("await one.wait() < 0") == "True"
    assert not survivors(mark)


# -- on and off -----------------------------------------------------------------------------------------------

ORIGINALS = """
ip = get_ipython()
scripts = ip.magics_manager.registry["ScriptMagics"]
def originals():
    cells = {name: id(magic) for name, magic in ip.magics_manager.magics["cell"].items() if name != "timeout_shell"}
    return [*(name in vars(each) for each, name in NAMES), ip.system, ip.getoutput, scripts.shebang, cells]
NAMES = [(ip, "system"), (ip, "getoutput"), (scripts, "shebang")]
before = originals()
"""


@pytest.mark.parametrize(
    "end", ["%timeout_shell off", "%unload_ext ipython_pgtimeout", "%reload_ext ipython_pgtimeout"]
)
@pytest.mark.parametrize("was_replaced", [False, True])
def test_the_originals_are_put_back(kernel: Kernel, end: str, was_replaced: bool) -> None:
    if was_replaced:
        kernel.run("ip = get_ipython(); ip.system = ip.system_raw; ip.getoutput = ip.getoutput")
    kernel.run(ORIGINALS)
    assert kernel.value("before[:3]") == f"[{was_replaced}, {was_replaced}, False]"
    for line in ("5", "6", "7 -k 1"):
        kernel.run(f"%timeout_shell {line}")
        assert kernel.value("originals() == before") == "False"
    kernel.run(end)
    assert kernel.value("originals() == before") == "True"
    kernel.run("%reload_ext ipython_pgtimeout\nfor name in ('system', 'getoutput'): vars(ip).pop(name, None)")
    assert kernel.value("originals()[:3]") == "[False, False, False]"


def test_a_shell_that_runs_commands_in_another_way_is_left_alone(kernel: Kernel) -> None:
    kernel.run("ip = get_ipython(); ip.system = ip.system_raw")
    reply = kernel.run("%timeout_shell 5")
    assert reply.stdout == ("in force: %timeout_shell 5; !command has the terminal to itself here, and no deadline\n")
    assert kernel.value("ip.system.__func__ is type(ip).system_raw") == "True"
    kernel.run("%timeout_shell off\ndel ip.system")


def test_it_can_be_configured_for_a_pipeline(tmp_path: Path) -> None:
    directory = tmp_path / "profile_default"
    directory.mkdir()
    (directory / "ipython_kernel_config.py").write_text(
        "c.IPKernelApp.extensions = ['ipython_pgtimeout']\nc.PgTimeout.everywhere = '400ms -k 0.3'\n"
    )
    with Kernel(environment={"IPYTHONDIR": str(tmp_path)}) as kernel:
        for before in ("", "%reload_ext ipython_pgtimeout\n", "%unload_ext ipython_pgtimeout\n" + LOAD + "\n"):
            kernel.run(before)
            assert kernel.execute("!sleep 100").ename == "CommandTimeout"
            assert kernel.run("%timeout_shell").stdout == "in force: %timeout_shell 400ms -k 0.3\n"
        kernel.run("%unload_ext ipython_pgtimeout")
        assert kernel.value("ip = get_ipython(); 'system' in vars(ip), 'getoutput' in vars(ip)") == "(False, False)"
        kernel.run(LOAD)
        kernel.run("%config PgTimeout.everywhere = '2m'")
        assert kernel.run("%timeout_shell").stdout == "in force: %timeout_shell 2m\n"
        kernel.run("%config PgTimeout.everywhere = ''")
        assert kernel.value("'system' in vars(get_ipython())") == "False"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("soon", "TIMEOUT can't be 'soon'; write for example 30, 1.5, 500ms, 2m, 5m30s, 1h or inf"),
        ("0", "TIMEOUT must be more than zero, not '0'; write for example 30, 1.5, 500ms, 2m, 5m30s, 1h or inf"),
        ("-k 1", "TIMEOUT is missing; write for example %timeout_shell 10m, or %timeout_shell off"),
        ("5 make test", "unexpected 'make test'; write for example %timeout_shell 10m, or %timeout_shell off"),
        ("5 --pty", "--pty is for one command; write it after %%timeout_shell, in the cell of this command"),
        ("5 --result r", "--result is for one command; write it after %%timeout_shell, in the cell of this command"),
        ("5 --leftover kill", "unknown option --leftover; did you mean --leftovers?"),
        ("5 -k never", "--kill-after can't be 'never'; write for example 2s, 500ms or 0"),
        ("5 --log /no/such", "--log /no/such: No such file or directory; write for example make.log"),
        ("off 5", "unexpected '5'; write for example %timeout_shell 10m, or %timeout_shell off"),
    ],
)
def test_a_bad_line_is_refused_and_changes_nothing(guarded: Kernel, line: str, message: str) -> None:
    states = {
        "off": "%timeout_shell is off; write for example %timeout_shell 10m\n",
        "7": "in force: %timeout_shell 7\n",
    }
    for before, after in states.items():
        guarded.run(f"%timeout_shell {before}")
        reply = guarded.execute(f"%timeout_shell {line}")
        assert reply.text == f"UsageError: {message}\n"
        assert guarded.run("%timeout_shell").stdout == after
    reply = guarded.execute(f"%config PgTimeout.everywhere = {line!r}")
    assert message.partition("; write")[0].removeprefix("--") in reply.text
    assert guarded.run("%timeout_shell").stdout == "in force: %timeout_shell 7\n"


def test_the_help_and_the_completions_are_the_options_for_all_commands(kernel: Kernel) -> None:
    text = _paged(kernel, "%timeout_shell?")
    assert "%timeout_shell [options] TIMEOUT | off" in text
    assert _paged(kernel, "%timeout_shell 5 --help") == text
    assert _paged(kernel, "%%timeout_shell?") != text
    flags = [flag for option in spec.EVERYWHERE for flag in option.flags]
    for option in spec.EVERYWHERE:
        assert ", ".join(option.flags) + f" {option.metavar}" in text
        assert option.help in text
    assert "--strict" not in text
    assert _completions(kernel, "%timeout_shell 5 -|") == sorted(f"%timeout_shell 5 {flag}" for flag in flags)
    assert _completions(kernel, "%timeout_shell --leftovers k|") == ["%timeout_shell --leftovers kill"]
