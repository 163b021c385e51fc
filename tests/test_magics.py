"""The magics as IPython knows them: help, completion, configuration, expansion, variables in and out, reloading."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipython_pgtimeout import spec

from .kernels import Kernel, named_children
from .watching import wait_until


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# -- help, completion, configuration --------------------------------------------------------------------------


def _paged(kernel: Kernel, code: str) -> str:
    """The text that a cell opens in the front end's pager."""
    message = kernel.client.execute(code)
    reply = kernel.client.get_shell_msg(timeout=20)
    while reply["parent_header"].get("msg_id") != message:
        reply = kernel.client.get_shell_msg(timeout=20)
    (payload,) = reply["content"]["payload"]
    return _without_colours(payload["data"]["text/plain"])


@pytest.mark.parametrize("magic", ["%%timeout_shell", "%run_timed"])
def test_the_help_has_every_option(kernel: Kernel, magic: str) -> None:
    text = _paged(kernel, f"{magic}?")
    assert f"{magic} [options] TIMEOUT" in text
    for option in spec.OPTIONS:
        assert ", ".join(option.flags) + (f" {option.metavar}" if option.metavar else "") in text
        assert option.help in text


@pytest.mark.parametrize(
    "code",
    [
        "%%timeout_shell --help",
        "%%timeout_shell -h\n",
        "%%timeout_shell 30 --strict --help\ntouch {started}",
        "%run_timed --help",
        "%run_timed --strict -h 30 touch {started}",
    ],
)
def test_the_option_help_shows_the_same_and_starts_nothing(kernel: Kernel, tmp_path: Path, code: str) -> None:
    started = tmp_path / "started"
    assert _paged(kernel, code.format(started=started)) == _paged(kernel, code.split()[0] + "?")
    assert not started.exists()


def test_help_in_a_command_belongs_to_the_command(kernel: Kernel) -> None:
    assert kernel.run("%run_timed 30 echo --help -h").stdout == "--help -h\n"
    assert kernel.run("%%timeout_shell --env A=--help 30\necho $A -h").stdout == "--help -h\n"


def _completions(kernel: Kernel, code: str) -> list[str]:
    """What the line with the cursor, a `|` in ``code``, can become."""
    code, cursor = code.replace("|", ""), code.index("|")
    reply = kernel.client.complete(code, cursor, reply=True, timeout=20)["content"]
    line = code[:cursor].rpartition("\n")[2]
    start = reply["cursor_start"] - (cursor - len(line))
    return sorted({line[:start] + match for match in reply["matches"]})


@pytest.fixture(params=["jedi", "no jedi", "no jedi, one line"])
def completer(kernel: Kernel, request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """A kernel with each of the completers that IPython and ipykernel have. The last one sees one line alone."""
    jedi, cell = "IPCompleter.use_jedi", "IPythonKernel.use_experimental_completions"
    kernel.run(f"%config {jedi} = {request.param == 'jedi'}\n%config {cell} = {'one line' not in request.param}")
    yield kernel
    kernel.run(f"%config {jedi} = True\n%config {cell} = True")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("%%timeout_shell --lef|", ["--leftovers"]),
        ("%%timeout_shell --lef|\necho", ["--leftovers"]),
        ("%run_timed --lef|", ["--leftovers"]),
        ("run_timed --lef|", ["--leftovers"]),
        ("x = 1\nr = %run_timed --ki|", ["--kill-after"]),
        ("%%timeout_shell 30 --no-r|", ["--no-raise", "--no-raise-error"]),
        ("%%timeout_shell --|", [flag for option in spec.OPTIONS for flag in option.flags if flag.startswith("--")]),
        ("%%timeout_shell |", [flag for option in spec.OPTIONS for flag in option.flags]),
        ("%%timeout_shell --strict -k 2s -|", [flag for option in spec.OPTIONS for flag in option.flags]),
        ("%run_timed --leftovers |", ["kill", "leave", "wait"]),
        ("%%timeout_shell --leftovers k|", ["kill"]),
        ("r = %run_timed --leftovers=k|", ["kill"]),
        ("%run_timed -s te|", ["TERM"]),
        ("%run_timed --signal RTM|", ["RTMAX", "RTMIN"]),
        ("%%timeout_shell --shell |", ["bash", "sh", "zsh"]),
        ("%%timeout_shell --max-output |", ["1MB"]),
        ("%run_timed --env 'a b' --idl|", ["--idle"]),
        ("%%timeout_shell --env my_te|", ["my_text"]),
        ("%%timeout_shell --cwd {here}/f|", ["{here}/folder/"]),
        ("%%timeout_shell --log {here}/f|", ["{here}/file", "{here}/folder"]),
        ("%%timeout_shell --log {here}/file|", ["{here}/file"]),
    ],
)
def test_options_and_their_values_are_completed_and_nothing_else(
    completer: Kernel, tmp_path: Path, code: str, expected: list[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    completer.run("my_text = 'x'")
    code = code.replace("{here}", str(tmp_path))
    line = code.partition("|")[0].rpartition("\n")[2]
    before = line[: len(line) - len(re.split(r"[\s=]", line)[-1])]
    assert _completions(completer, code) == sorted(before + each.replace("{here}", str(tmp_path)) for each in expected)


def test_the_command_of_a_line_and_the_magics_are_completed_by_ipython(completer: Kernel, tmp_path: Path) -> None:
    assert "%run_timed" in _completions(completer, "%run_ti|")
    assert "%%timeout_shell" in _completions(completer, "%%timeout_s|")
    assert not [match for match in _completions(completer, "%run_timed 30 cat --|") if "--leftovers" in match]
    (tmp_path / "file").touch()
    assert f"%run_timed 30 cat {tmp_path}/file" in _completions(completer, f"%run_timed 30 cat {tmp_path}/f|")


def test_completion_does_not_wait_for_jedi(fresh_kernel: Kernel) -> None:
    """Its first call takes seconds."""
    fresh_kernel.run("import jedi\ncalls = []\njedi.Interpreter = lambda *given, **more: calls.append(given)")
    for code in ("%%timeout_shell --lef|", "r = %run_timed --leftovers |", "%run_timed --cwd /|"):
        assert _completions(fresh_kernel, code)
    assert fresh_kernel.value("calls") == "[]"
    _completions(fresh_kernel, "calls.app|")
    assert fresh_kernel.value("calls") != "[]"


def test_config_sets_the_defaults(fresh_kernel: Kernel) -> None:
    fresh_kernel.run("%config PgTimeout.timeout = '300ms'\n%config PgTimeout.signal = 'INT'")
    fresh_kernel.run("%config PgTimeout.no_raise = True\n%config PgTimeout.kill_after = 0.3")
    fresh_kernel.run("%%timeout_shell --result r\ntrap '' INT; sleep 60; sleep 61")
    assert fresh_kernel.value("r.timeout, [s.signal for s in r.signals]") == "(0.3, ['SIGINT', 'SIGKILL'])"
    fresh_kernel.run("%%timeout_shell -s TERM --result r\nsleep 60")
    assert fresh_kernel.value("r.signals[0].signal") == "'SIGTERM'", "an option must override the config"


def test_config_refuses_what_the_option_refuses(fresh_kernel: Kernel) -> None:
    for name, value in (("signal", "'BANANA'"), ("kill_after", "'never'"), ("leftovers", "'maybe'"), ("timeout", "-1")):
        reply = fresh_kernel.execute(f"%config PgTimeout.{name} = {value}")
        assert "there is no signal" in reply.text or "can't be" in reply.text
    assert fresh_kernel.value("get_ipython().ipython_pgtimeout._defaults.signal") == "'TERM'"


def test_config_lists_what_can_be_configured(fresh_kernel: Kernel) -> None:
    shown = fresh_kernel.run("%config PgTimeout").text
    for option in (spec.TIMEOUT, *spec.OPTIONS):
        assert (f"PgTimeout.{option.name}=" in shown) == option.is_configurable


def test_a_config_file_is_read(tmp_path: Path) -> None:
    directory = tmp_path / "profile_default"
    directory.mkdir()
    (directory / "ipython_kernel_config.py").write_text(
        "c.IPKernelApp.extensions = ['ipython_pgtimeout']\nc.PgTimeout.timeout = '7s'\nc.PgTimeout.strict = True\n"
    )
    with Kernel(environment={"IPYTHONDIR": str(tmp_path)}) as kernel:
        kernel.run("%%timeout_shell --no-raise --result r\nfalse; true")
        assert kernel.value("r.timeout, r.returncode") == "(7.0, 1)"


# -- loading --------------------------------------------------------------------------------------------------


def test_unload_removes_the_magics_and_the_helpers_and_load_brings_them_back(kernel: Kernel) -> None:
    kernel.run("%run_timed 5 true")
    for _ in range(2):
        kernel.run("%unload_ext ipython_pgtimeout")
        assert "not found" in kernel.execute("%run_timed 5 true").text
        assert "not found" in kernel.execute("%%timeout_shell 5\ntrue").text
        assert "not found" in kernel.execute("%%timeout_shell --help").text
        assert kernel.value("get_ipython().input_transformers_post") == "[]"
        assert "%run_timed" not in _completions(kernel, "%run_ti|")
        assert "%run_timed --leftovers" not in _completions(kernel, "%run_timed --lef|")
        assert wait_until(lambda: not named_children(kernel.pid, "pgtimeout"), 10)
        kernel.run("%load_ext ipython_pgtimeout")
        kernel.run("%run_timed 5 true")


def test_reload_keeps_one_of_everything(kernel: Kernel) -> None:
    for _ in range(3):
        kernel.run("%reload_ext ipython_pgtimeout")
        assert kernel.value("get_ipython().run_line_magic('run_timed', '5 echo hi').stdout") == "'hi\\n'"
    expression = "[type(c).__name__ for c in get_ipython().configurables].count('PgTimeout')"
    assert kernel.value(expression) == "1"
    assert kernel.value("len(get_ipython().Completer.custom_matchers)") == "1"
    assert _completions(kernel, "%run_timed --lef|") == ["%run_timed --leftovers"]
    assert wait_until(lambda: len(named_children(kernel.pid, "pgtimeout")) == 1, 10)


# -- results and exit codes -----------------------------------------------------------------------------------


def test_a_line_returns_its_result_and_a_cell_none(kernel: Kernel) -> None:
    kernel.run("r = %run_timed 5 echo hi")
    assert kernel.value("type(r).__name__, r.stdout, r.command") == "('Result', 'hi\\n', 'echo hi')"
    assert re.match(r"exit code 0 \(", kernel.run("%run_timed 5 true").result)
    assert kernel.run("%%timeout_shell 5\ntrue").result == ""
    assert kernel.value("get_ipython().run_cell_magic('timeout_shell', '5', 'true') is None") == "True"


@pytest.mark.parametrize(
    ("code", "returncode"), [("0.3 sleep 60", -15), ("9 exit 3", 3), ("9 kill -9 $BASHPID", -9), ("9 true", 0)]
)
def test_result_and_exit_code_are_set_on_failure_too(kernel: Kernel, code: str, returncode: int) -> None:
    kernel.run("r = _exit_code = None")
    reply = kernel.execute(f"%run_timed --result r {code}")
    assert reply.status == ("error" if returncode else "ok")
    assert kernel.value("r.returncode, _exit_code") == f"({returncode}, {returncode})"


def test_the_exit_code_is_set_as_after_an_exclamation_mark(kernel: Kernel) -> None:
    for command in ("exit 3", "true"):
        kernel.run(f"!{command}")
        expected = kernel.value("_exit_code")
        kernel.run(f"%run_timed --no-raise 9 {command}")
        assert kernel.value("_exit_code") == expected


@pytest.mark.parametrize("flag", ["--no-raise", "--no-raise-error"])
def test_no_raise_prints_the_summary_instead(kernel: Kernel, flag: str) -> None:
    failed = kernel.run(f"%%timeout_shell {flag} 9\nexit 3")
    assert re.fullmatch(r"\[pgtimeout\] exit code 3 \(.*\)\n", failed.stderr)
    late = kernel.run(f"%%timeout_shell {flag} 0.2\nsleep 60")
    assert late.stderr.startswith("[pgtimeout] timed out after 0.2 s: SIGTERM to 1 process; all are gone")
    assert kernel.run(f"%%timeout_shell {flag} 9\ntrue").text == ""


def test_an_interrupt_raises_despite_no_raise_and_sets_the_result(kernel: Kernel) -> None:
    cell = kernel.submit("%%timeout_shell --no-raise --result r 30\necho ready; sleep 60")
    kernel.wait_for_text(cell, "ready")
    kernel.interrupt()
    kernel.wait(cell)
    assert cell.ename == "KeyboardInterrupt"
    (line,) = _without_colours(cell.traceback).splitlines()
    assert line.startswith("KeyboardInterrupt: interrupted: SIGINT to ")
    assert kernel.value("r.interrupted, r.reason, r.survivors") == "(True, 'interrupted', ())"


# -- variables and expansion ----------------------------------------------------------------------------------

NASTY = ["$(touch {}) `touch {}` $HOME", "'; touch {}; '", '"; touch {}; "', "two\nlines\n\n", "é😀\t\\ %s {{x}}", ""]


@pytest.mark.parametrize("text", NASTY)
def test_env_passes_a_variable_unchanged(kernel: Kernel, tmp_path: Path, text: str) -> None:
    value = text.format(*[tmp_path / "injected"] * 2)
    kernel.run(f"value = {value!r}")
    kernel.run('%%timeout_shell --env value --result r 9\nprintf %s "$value"')
    assert kernel.value("r.stdout == value") == "True"
    kernel.run("r = %run_timed -e value 9 printenv value")
    assert kernel.value("r.stdout == value + chr(10)") == "True"
    assert not (tmp_path / "injected").exists()
    if "\n" not in value:
        given = shlex.quote("value=" + value)
        kernel.run(f'%%timeout_shell --env {given} --result r 9\nprintf %s "$value"')
        assert kernel.value("r.stdout == value") == "True"


def test_env_takes_texts_numbers_and_paths(kernel: Kernel) -> None:
    kernel.run("import pathlib; a, b, c, d = 1, 2.5, pathlib.Path('/tmp/x y'), b'bytes'")
    reply = kernel.run('%%timeout_shell -e a -e b -e c -e d -e e=5 9\necho "$a|$b|$c|$d|$e"')
    assert reply.stdout == "1|2.5|/tmp/x y|bytes|5\n"


@pytest.mark.parametrize("text", ["{x}", "$x", "{x + 1}", "$$x", "{{x}}", "${{HOME}}", "$undefined_x", "a{x}$y b"])
def test_a_line_is_expanded_as_after_an_exclamation_mark(kernel: Kernel, text: str) -> None:
    kernel.run("x, y = 41, 'a b'")
    kernel.run(f"expected = !echo {text}")
    kernel.run(f"r = %run_timed 9 echo {text}")
    assert kernel.value("r.stdout.splitlines() == list(expected)") == "True"


def test_a_line_is_expanded_with_local_variables_of_its_function(kernel: Kernel) -> None:
    kernel.run("def f(local):\n    r = %run_timed 9 echo {local}\n    return r.stdout")
    assert kernel.value("f('inside')") == "'inside\\n'"


def test_a_cell_is_never_expanded(kernel: Kernel) -> None:
    kernel.run("x = 41")
    reply = kernel.run("%%timeout_shell 9\nx=shell; y={x}; echo $x ${x} {x} $y \"{x!r}\" '$x' %d %x")
    assert reply.stdout == "shell shell {x} {x} {x!r} $x %d %x\n"


def test_a_script_cannot_read_itself_from_stdin(kernel: Kernel) -> None:
    reply = kernel.run('%%timeout_shell 9\nread first; echo "<$first>"\ncat\necho last')
    assert reply.stdout == "<>\nlast\n"


def test_stdout_and_stderr_stay_apart_and_keep_their_colours(kernel: Kernel) -> None:
    reply: Any = kernel.run("%%timeout_shell 9\nprintf '\\033[31mred\\033[0m'; echo err >&2")
    assert (reply.stdout, reply.stderr) == ("\x1b[31mred\x1b[0m", "err\n")


def test_output_comes_while_the_command_runs(kernel: Kernel, tmp_path: Path) -> None:
    cell = kernel.submit(f"%%timeout_shell 20\necho first\nuntil [ -e {tmp_path}/go ]; do sleep 0.05; done; echo last")
    kernel.wait_for_text(cell, "first")
    assert "last" not in cell.stdout
    (tmp_path / "go").touch()
    kernel.wait(cell)
    assert cell.stdout == "first\nlast\n"


def test_processes_left_after_the_shell_are_reported_and_waited_for(kernel: Kernel) -> None:
    reply = kernel.run("%%timeout_shell 20\n(sleep 1.6; echo late) & exit 0")
    assert reply.stdout == "late\n"
    pattern = r"\[pgtimeout\] the shell has ended \(exit code 0\); waiting for \d process(es)?: \w+ \(\d+\).*\n"
    assert re.fullmatch(pattern, reply.stderr)


def test_strict_mode_stops_at_a_failing_line(kernel: Kernel) -> None:
    reply = kernel.execute("%%timeout_shell --strict 9\necho one\nfalse\necho two")
    assert (reply.stdout, reply.ename) == ("one\n", "CommandFailed")
