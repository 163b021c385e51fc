"""Reading a magic's line: durations, signals, and where the options end and a verbatim command begins."""

from __future__ import annotations

import math
import re
import signal
from pathlib import Path

import pytest

from ipython_pgtimeout import options, values
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
    ],
)
def test_a_timeout_is_a_duration_of_gnu_timeout_or_ms_or_inf(text: str | float, seconds: float) -> None:
    assert values.parse_timeout(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "0", "0.0s", "0ms", "-1", "-inf", "nan", "366d", "1e30", "1w", "2 m", "1m30s", "1_000", "0x10", "½"],
)
def test_a_timeout_that_makes_no_sense_is_refused_with_a_right_example(text: str) -> None:
    with pytest.raises(InputError, match="write for example 30") as caught:
        values.parse_timeout(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("0ms", 0), ("2s", 2), ("1.5", 1.5), (0, 0), (0.5, 0.5)])
def test_a_grace_may_be_zero(text: str | float, seconds: float) -> None:
    assert values.parse_grace(text) == seconds


@pytest.mark.parametrize("text", ["-1", "nan", "soon", "", "inf", "400d"])
def test_a_grace_is_bounded(text: str) -> None:
    with pytest.raises(InputError, match="--kill-after"):
        values.parse_grace(text)


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
    ],
)
def test_a_signal_is_a_name_or_a_number(text: str | int, number: signal.Signals) -> None:
    assert values.parse_signal(text) is number


@pytest.mark.parametrize("text", ["", "NOPE", "SIG", "0", "-9", "999", "TERM,INT", "SIGSIGTERM"])
def test_an_unknown_signal_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--signal: there is no signal"):
        values.parse_signal(text)


@pytest.mark.parametrize("text", ["a-b", "1a", "", "a b", "a.b"])
def test_a_result_goes_into_a_variable(text: str) -> None:
    with pytest.raises(InputError, match="--result x"):
        values.name_parser("--result")(text)


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
    assert values.parse_environment(text) == pair


@pytest.mark.parametrize("text", ["", "=", "=value", "A=\0"])
def test_an_environment_variable_has_a_name_and_no_nul(text: str) -> None:
    with pytest.raises(InputError, match="--env NAME=VALUE"):
        values.parse_environment(text)


# What stands after TIMEOUT in %run_timed, and must come out as it went in.
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
def test_what_follows_the_timeout_of_a_line_is_the_command_verbatim(before: str, command: str) -> None:
    values, timeout, rest = options.split(before + command, verbatim=True)
    assert (timeout, rest) == ("30", command)
    assert ("kill_after" in values) == ("k" in before)


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
    assert options.split(line, verbatim=False) == (expected, "30", "")


def test_a_timeout_may_be_left_out_of_a_line_of_options() -> None:
    assert options.split("--strict", verbatim=False) == ({"strict": True}, None, "")
    assert options.split("   ", verbatim=False) == ({}, None, "")


def test_what_does_not_belong_behind_the_timeout_of_a_cell_is_handed_back() -> None:
    assert options.split("30 echo hi", verbatim=False) == ({}, "30", "echo hi")


@pytest.mark.parametrize("number", ["-1", "-.5", "-1s"])
def test_a_negative_number_is_a_bad_timeout_and_no_unknown_option(number: str) -> None:
    _, timeout, _ = options.split(number, verbatim=False)
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
def test_an_option_that_makes_no_sense_is_refused_in_one_line(line: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        options.split(line, verbatim=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_option_is_completed_and_has_one_reference_entry() -> None:
    flags = [flag for option in options.OPTIONS for flag in option.flags]
    assert sorted(options.complete(" 30 --")) == sorted(flags)
    assert len(set(flags)) == len(flags)
    text = options.reference("%%usage", "What it does.", {"kill_after": "7s"})
    entries = [line for line in text.splitlines() if line.startswith("-")]
    assert len(entries) == len(options.OPTIONS)
    assert "(default 7s)" in text


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (" --leftovers ", list(values.LEFTOVERS)),
        (" --leftovers le", list(values.LEFTOVERS)),
        (" 30 --cwd ", []),
    ],
)
def test_the_value_of_an_option_is_completed_by_its_choices(line: str, offered: list[str]) -> None:
    assert options.complete(line) == offered


def test_the_readme_lists_every_option_with_its_default() -> None:
    expected = []
    for option in options.OPTIONS:
        *others, last = option.flags
        typed = ", ".join(f"`{flag}`" for flag in [*others, f"{last} {option.metavar}" if option.metavar else last])
        shown = f"`{option.default}`" if option.metavar else "on"
        default = shown if option.default else ""
        expected.append((typed, default))
    rows = [row for row in README.read_text(encoding="utf-8").splitlines() if row.startswith("| `-")]
    cells = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    assert [(typed, default) for typed, _, default in cells] == expected
    assert all(meaning for _, meaning, _ in cells)
