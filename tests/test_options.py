"""The declared fields: what their values mean, how a magic's line is parsed, and that all copies of them agree."""

from __future__ import annotations

import dataclasses
import inspect
import math
import pickle
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipython_pgtimeout import Result, run, run_async, spec, start, values
from ipython_pgtimeout.magics import line as lines
from ipython_pgtimeout.options import Option
from ipython_pgtimeout.shared.records import Ending
from ipython_pgtimeout.spec import FIELDS, TIMEOUT, make_spec
from ipython_pgtimeout.values import InputError

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5),
        ("30s", 30),
        ("500ms", 0.5),
        ("2m", 120),
        ("1h", 3600),
        ("1d", 86400),
        ("365d", 365 * 86400),
        ("2M", 120),
        ("1e2", 100),
        ("1e-2s", 0.01),
        (" 7 ", 7),
        ("inf", math.inf),
        ("Infinity", math.inf),
        (3, 3),
        (0.25, 0.25),
        (math.inf, math.inf),
        ("5m30s", 330),
        ("1h30m", 5400),
        ("1d2h3m4s5ms", 93784.005),
        ("2H5S", 7205),
        ("1m.5s", 60.5),
    ],
)
def test_a_timeout_is_a_duration_of_gnu_timeout_or_ms_or_inf(text: str | float, seconds: float) -> None:
    assert values.parse_timeout(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *["", "0", "0.0s", "0ms", "-1", "-inf", "nan", "366d", "1e30", "1w", "2 m", "1_000", "0x10", "½", "m", "1.2.3"],
        *["5m30", "1h30", "30s5m", "5ms30s", "1m1m", "5m 30s", "0m0s", "364d25h", "5m-1s", "5m inf"],
    ],
)
def test_an_invalid_timeout_is_refused_with_a_correct_example(text: str) -> None:
    with pytest.raises(InputError) as caught:
        TIMEOUT.parsed(text)
    assert "; write for example 30, 1.5, 500ms, 2m, 5m30s, 1h or inf" in caught.value.spelled("TIMEOUT")
    assert "; write for example timeout='30', timeout='1.5'" in str(caught.value)
    assert "\n" not in str(caught.value)


@given(amounts=st.dictionaries(st.sampled_from(["d", "h", "m", "s", "ms"]), st.integers(0, 50), min_size=1))
def test_a_duration_of_several_units_is_their_sum(amounts: dict[str, int]) -> None:
    seconds = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
    text = "".join(f"{amounts[unit]}{unit}" for unit in seconds if unit in amounts)
    assert values.parse_grace(text) == pytest.approx(sum(seconds[unit] * amounts[unit] for unit in amounts))
    assert values.parse_grace(values.parse_grace(text)) == values.parse_grace(text)


@given(text=st.text("0123.e-+smhd ", max_size=8))
@example(text="1e400")
def test_any_text_is_a_duration_or_refused_in_one_line(text: str) -> None:
    refusal = ""
    try:
        assert 0 <= values.parse_grace(text) <= 365 * 86400
    except InputError as error:
        refusal = error.spelled("--kill-after")
    assert re.fullmatch(r"(--kill-after .*; write for example 2s, 500ms or 0)?", refusal)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("0ms", 0), ("2s", 2), ("1.5", 1.5), (0, 0), (0.5, 0.5)])
def test_a_grace_may_be_zero(text: str | float, seconds: float) -> None:
    assert values.parse_grace(text) == seconds


@pytest.mark.parametrize("text", ["-1", "nan", "soon", "", "inf", "400d"])
def test_a_grace_is_bounded(text: str) -> None:
    with pytest.raises(InputError, match="kill_after"):
        FIELDS["kill_after"].parsed(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", signal.SIGTERM),
        ("SIGTERM", signal.SIGTERM),
        ("term", signal.SIGTERM),
        ("sigint", signal.SIGINT),
        ("15", signal.SIGTERM),
        (9, signal.SIGKILL),
        (" HUP ", signal.SIGHUP),
        (signal.SIGUSR1, signal.SIGUSR1),
        ("RTMIN", signal.SIGRTMIN),
        ("RTMIN+1", signal.SIGRTMIN + 1),
        ("SIGRTMAX-2", signal.SIGRTMAX - 2),
        (str(signal.SIGRTMIN + 2), signal.SIGRTMIN + 2),
        (signal.SIGRTMIN + 2, signal.SIGRTMIN + 2),
    ],
)
def test_a_signal_is_a_name_or_a_number(text: str | int, number: int) -> None:
    assert values.parse_signal(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "NOPE", "SIG", "0", "-9", "999", "TERM,INT", "SIGSIGTERM", "RTMIN-1", "RTMAX+1", "RTMIN+99", "RTMIN+", None],
)
def test_an_unknown_signal_is_refused(text: object) -> None:
    with pytest.raises(InputError, match="signal: there is no signal"):
        FIELDS["signal"].parsed(text)


@pytest.mark.parametrize("text", ["a-b", "1a", "", "a b", "a.b"])
def test_a_result_name_that_is_no_identifier_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"result can't be .*; write the name of a Python variable, for example x"):
        FIELDS["result"].parsed(text)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("A", ("A", None)),
        ("A=", ("A", "")),
        ("A=b=c", ("A", "b=c")),
        ("A=x y\nz", ("A", "x y\nz")),
    ],
)
def test_an_environment_variable_has_a_value_or_is_a_python_variable(text: str, pair: tuple[str, str | None]) -> None:
    assert values.parse_assignment(text) == pair


@pytest.mark.parametrize("text", ["", "=", "=value", "A=\0"])
def test_an_environment_variable_without_name_or_with_nul_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write NAME or NAME=VALUE"):
        values.parse_assignment(text)


# Texts after TIMEOUT in %run_timed, which must be returned unchanged.
COMMANDS = [
    "make test",
    "-v",
    "--strict",
    "2",
    "a | b > 'c d' 2>&1 & wait",
    "echo \"it's\"  '  two  blanks '",
    "echo unclosed '",
    'printf "%s\\n" a\\ b',
    "echo $(cat <<< x) # 50%",
    "trailing blanks  ",
    "a\tb",
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("before", ["30 ", "  30   ", "-k 1 30 ", "--kill-after=1 --strict 30 ", "-e 'A=b c' 30\t"])
def test_the_text_after_the_timeout_of_a_line_is_the_command_verbatim(before: str, command: str) -> None:
    given, timeout, rest = lines.split(before + command, verbatim=True)
    assert (timeout, rest) == ("30", command)
    assert ("kill_after" in given) == ("k" in before)


def _parse_cell_line(line: str) -> tuple[dict[str, Any], str | None, str]:
    """Split the line of a cell magic and parse its values, except those of --env and --stdin."""
    given, timeout, rest = lines.split(line, verbatim=False)
    parsed = {name: value if FIELDS[name].parse_text else FIELDS[name].parsed(value) for name, value in given.items()}
    return parsed, timeout, rest


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("30", {}),
        ("-s INT 30", {"signal": signal.SIGINT}),
        ("30 -s INT", {"signal": signal.SIGINT}),
        ("30 --signal=INT", {"signal": signal.SIGINT}),
        ("--signal INT 30 --kill-after 0", {"signal": signal.SIGINT, "kill_after": 0}),
        ("--strict 30 --no-raise", {"strict": True, "no_raise": True}),
        ("30 --no-raise-error", {"no_raise": True}),
        ("30 --leftovers kill --leftovers leave", {"leftovers": "leave"}),
        ("30 --cwd '/tmp/a b'", {"cwd": "/tmp/a b"}),
        ('30 --cwd="/tmp/a b"', {"cwd": "/tmp/a b"}),
        ("30 --cwd /tmp/a\\ b", {"cwd": "/tmp/a b"}),
        ("30 --shell=/bin/sh --result r", {"shell": "/bin/sh", "result": "r"}),
        ("30 -e A -e B=1 --env C='x y'", {"env": [("A", None), ("B", "1"), ("C", "x y")]}),
        ("30 --env='A=b c'", {"env": [("A", "b c")]}),
        ("30 --env A=", {"env": [("A", "")]}),
        ("30 --env A=--strict", {"env": [("A", "--strict")]}),
        ("30 --cwd -strange-", {"cwd": "-strange-"}),
    ],
)
def test_the_cell_magic_takes_options_on_both_sides_of_its_timeout(line: str, expected: dict[str, object]) -> None:
    assert _parse_cell_line(line) == (expected, "30", "")


def test_a_timeout_may_be_left_out_of_a_line_of_options() -> None:
    assert lines.split("--strict", verbatim=False) == ({"strict": True}, None, "")
    assert lines.split("   ", verbatim=False) == ({}, None, "")


def test_text_after_the_timeout_of_a_cell_is_returned_as_the_rest() -> None:
    assert lines.split("30 echo hi", verbatim=False) == ({}, "30", "echo hi")


@pytest.mark.parametrize("number", ["-1", "-.5", "-1s"])
def test_a_negative_number_is_a_bad_timeout_and_no_unknown_option(number: str) -> None:
    _, timeout, _ = lines.split(number, verbatim=False)
    assert timeout == number


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--leftover kill 30", "did you mean --leftovers"),
        ("--bananas 30", "unknown option --bananas; there are -s, --signal"),
        ("-x 30", "unknown option -x"),
        ("-- 30 true", "unknown option --"),
        ("--strict=1 30", "--strict takes no value; write --strict alone"),
        ("30 --signal", "--signal needs a value; write --signal SIG"),
        ("30 --cwd 'a b", "a quote is not closed"),
        ('30 --env="A b', "a quote is not closed"),
        ("30 --leftovers=maybe", "write wait, kill or leave"),
        ("30 --leftovers=", "write wait, kill or leave"),
        ("30 --shell ''", "write for example bash"),
    ],
)
def test_an_invalid_option_is_refused_in_one_line(line: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        _parse_cell_line(line)
    message = caught.value.spelled(lines.flag_of(caught.value.field))
    assert words in message
    assert "\n" not in message


def test_every_option_is_completed_and_has_one_reference_entry() -> None:
    flags = [flag for option in spec.OPTIONS for flag in option.flags]
    assert lines.complete("30 -", False, ()) == ("-", flags)
    assert len(set(flags)) == len(flags)
    text = lines.reference("%%usage", "What it does.", {"kill_after": "7s"})
    entries = [line for line in text.splitlines() if line.startswith("-")]
    assert len(entries) == len(spec.OPTIONS)
    assert "(default 7s)" in text


@pytest.mark.parametrize(
    "option", [option for option in spec.OPTIONS if option.metavar], ids=lambda option: option.name
)
def test_what_is_offered_as_a_value_is_accepted(option: Option) -> None:
    for flag in option.flags:
        word, offered = lines.complete(f"{flag} ", False, ["some_name"])
        assert word == ""
        assert offered
        for text in offered:
            option.parsed(given if isinstance(given := option.parsed_text(text), str) else {"A": "b"})


@pytest.mark.parametrize("line", ["30 --l", "30 cat --leftovers ", "--env 'a --l", "--strict=k", "--banana k", "3"])
def test_nothing_is_offered_in_the_command_in_quotes_and_after_mistakes(line: str) -> None:
    assert lines.complete(line, True, ["k", "l"])[1] == []


def test_paths_are_quoted_where_they_must_be(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a*c").touch()
    _, offered = lines.complete(f"--cwd {tmp_path}/a", False, ())
    assert offered == [f"'{tmp_path}/a b/'"]
    assert lines.split(f"--cwd {offered[0]} 30", verbatim=False)[0]["cwd"] == f"{tmp_path}/a b/"
    _, offered = lines.complete(f"--log {tmp_path}/a*", False, ())
    assert offered == [f"'{tmp_path}/a*c'"]


def test_the_readme_lists_every_option_with_its_default() -> None:
    expected = []
    for option in spec.OPTIONS:
        *others, last = option.flags
        typed = ", ".join(f"`{flag}`" for flag in [*others, f"{last} {option.metavar}" if option.metavar else last])
        shown = f"`{option.default}`" if option.metavar else "on"
        default = shown if option.default else ""
        expected.append((typed, default))
    rows = [row for row in README.read_text(encoding="utf-8").splitlines() if row.startswith("| `-")]
    cells = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    assert [(typed, default) for typed, _, default in cells] == expected
    assert all(meaning for _, meaning, _ in cells)


# -- copies of the declaration agree with it -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "more"),
    [
        (run, ["echo", "on_output", "check", "engines"]),
        (start, ["echo", "on_output"]),
        (run_async, ["echo", "on_output", "check"]),
    ],
)
def test_the_keywords_of_each_function_are_the_declared_fields_with_their_defaults(
    function: Callable[..., object], more: list[str]
) -> None:
    parameters = inspect.signature(function).parameters
    assert list(parameters) == [*spec.SPEC_FIELDS, *more]
    for name, option in spec.SPEC_FIELDS.items():
        required = name in ("command", "timeout")
        assert parameters[name].default == (inspect.Parameter.empty if required else option.default), name


def test_a_result_repeats_fields_of_the_call_under_the_same_names() -> None:
    result = run("true", "7s", idle="5s")
    asked = make_spec({"command": "true", "timeout": "7s", "idle": "5s"})
    shared = spec.SPEC_FIELDS.keys() & {field.name for field in dataclasses.fields(Result)}
    shared -= set(Ending._fields) - {"timeout"}  # `processes` are those that ran, and not how many may
    assert shared == {"command", "timeout", "idle"}
    assert {name: getattr(result, name) for name in shared} == {name: getattr(asked, name) for name in shared}


def test_the_limits_for_the_guard_are_fields_of_the_same_names() -> None:
    asked = make_spec({"command": "true", "timeout": 7, "signal": "INT", "kill_after": 1, "leftovers": "kill"})
    limits = asked.limits(3.0)
    assert limits._asdict() == {
        "started_s": 3.0,
        "timeout": 7.0,
        "kill_after": 1.0,
        "signal": signal.SIGINT,
        "leftovers": "kill",
        "memory": math.inf,
        "cpu": math.inf,
        "processes": math.inf,
        "oom_score_adj": 1000,
    }
    assert set(limits._fields[1:]) <= spec.SPEC_FIELDS.keys()


@pytest.mark.parametrize("option", spec.FIELDS.values(), ids=spec.FIELDS)
def test_a_value_can_be_parsed_twice(option: Option) -> None:
    if option.default not in ("", None):
        once = option.parsed(option.default)
        assert option.parsed(once) == once


@pytest.mark.parametrize(
    ("given", "python", "magic"),
    [
        ({"idle": "never"}, "idle can't be 'never'; write for example idle='30s', ", "--idle can't be 'never'; write"),
        ({"kill_after": -1}, "kill_after can't be -1; write for example kill_after='2s'", "--kill-after can't be -1"),
        ({"timeout": 0}, "timeout must be more than zero, not 0; write", "TIMEOUT must be more than zero"),
        ({"signal": "NO"}, "signal: there is no signal 'NO'; write for example signal='TERM'", "--signal: there is"),
        ({"env": {"A": 1}}, "env A: a int can't be an environment variable; make it a str", "--env A: a int"),
        ({"env": "A=1"}, "env can't be of type str; write a dict", "--env can't be"),
        (
            {"shell": 3},
            "shell can't be 3; write for example shell='bash'",
            "--shell can't be 3; write for example bash",
        ),
        ({"memory": 0}, "memory must be more than zero, not 0; write for example memory='500MB'", "--memory must be"),
        ({"memory": "much"}, "memory can't be 'much'; write for example memory='500k'", "--memory can't be 'much'"),
        ({"cpu": 0}, "cpu must be more than zero, not 0; write for example cpu='30s'", "--cpu must be more"),
        ({"processes": 0}, "processes can't be 0; write for example processes='50'", "--processes can't be 0"),
        ({"processes": 2.5}, "processes can't be 2.5; write", "--processes can't be 2.5"),
        ({"oom_score_adj": -1}, "oom_score_adj can't be -1; it is a number from 0 to", "--oom-score-adj can't be -1"),
        ({"cwd": 3}, "cwd can't be 3; write for example cwd='/tmp'", "--cwd can't be 3"),
    ],
)
def test_an_error_spells_the_field_for_python_and_for_the_magics(
    given: dict[str, Any], python: str, magic: str
) -> None:
    with pytest.raises(InputError) as caught:
        make_spec({"command": "true", "timeout": 5, **given})
    assert str(caught.value).startswith(python)
    assert caught.value.spelled(lines.flag_of(caught.value.field)).startswith(magic)
    twin = pickle.loads(pickle.dumps(caught.value))
    assert (type(twin), str(twin), twin.field) == (InputError, str(caught.value), caught.value.field)
