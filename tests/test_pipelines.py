"""Tools that run notebooks: what is left when they are ended or end a cell themselves, as docs/how-to/ci.md says."""

from __future__ import annotations

import re
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from subprocess import run

import pytest

pytest.importorskip("papermill")
pytest.importorskip("voila")

from .command_lines import PGTIMEOUT, default_signals, installed
from .jobs import NASTY
from .pipelines import END_S, HOW_TO, START_S, TOOLS, Pipeline, left_behind, pipeline_in
from .watching import survivors, wait_until

pytestmark = pytest.mark.timeout(240)
SOON_S = 10.0
LIMITS_S = (5, 20, 60)
"""A limit, and longer ones if the machine was too busy for the programs to start before it."""


@pytest.fixture
def pipeline(tmp_path: Path, mark: str) -> Iterator[Pipeline]:
    with pipeline_in(tmp_path, mark) as own:
        own.write_nasty()
        yield own


# -- the tool is ended ------------------------------------------------------------------------------------------


ENDED_BY_ITSELF = {
    "papermill": {"INT": 1},
    "jupyter execute": {"INT": 1, "TERM": 1},
    "nbclient": {"INT": 1, "TERM": 1},
    "voila": {"INT": 0, "TERM": 0},
}
"""The exit codes of the tools that catch a signal. Others die of it, and leave it to the kernel to notice that."""


@pytest.mark.parametrize(
    ("tool", "name"),
    # jupytext lets nbconvert run the notebook
    [(tool, name) for tool in TOOLS for name in ("INT", "TERM", "KILL") if tool != "jupytext" or name == "INT"],
)
def test_nothing_survives_a_signal_to_the_tool(tool: str, name: str, pipeline: Pipeline, mark: str) -> None:
    """Nothing: neither the programs, nor the kernel, nor our helpers."""
    number = signal.Signals[f"SIG{name}"]
    process = pipeline.begin(tool)
    pipeline.wait_until_ready(process)
    assert len(survivors(mark)) > len(NASTY)
    process.send_signal(number)
    code = process.wait(END_S)
    assert not left_behind(mark, SOON_S), pipeline.log()
    assert code == ENDED_BY_ITSELF.get(tool, {}).get(name, -number), pipeline.log()


def test_without_us_programs_survive_sigkill_of_the_tool(pipeline: Pipeline, mark: str) -> None:
    """The negative control."""
    pipeline.write_nasty_without_us()
    process = pipeline.begin("jupyter execute")
    pipeline.wait_until_ready(process)
    process.kill()
    process.wait()
    assert wait_until(lambda: not any("ipykernel" in line for line in survivors(mark)), SOON_S)
    left = survivors(mark)
    assert all(any(name in line for line in left) for name in ("ignores.sh", "hidden_daemon.py", "stopped_job.sh")), (
        left
    )


# -- a cell takes longer than the tool allows --------------------------------------------------------------------


INTERRUPT = "interrupt_on_timeout=True"


@pytest.mark.parametrize(
    ("tool", "limit", "options", "code"),
    [
        ("papermill", "--execution-timeout={}", [], 1),
        ("jupyter execute", "--timeout={}", ["--allow-errors"], 1),
        ("nbconvert", "--ExecutePreprocessor.timeout={}", ["--allow-errors", f"--ExecutePreprocessor.{INTERRUPT}"], 0),
        ("nbclient", f"timeout={{}}, {INTERRUPT}", [], 1),
    ],
)
def test_nothing_survives_the_limit_of_the_tool(
    tool: str, limit: str, options: list[str], code: int, pipeline: Pipeline, mark: str
) -> None:
    """nbclient that does not interrupt is in tests/test_survivors.py."""
    for seconds in LIMITS_S:
        ended = pipeline.finish(tool, limit.format(seconds), *options)
        assert not left_behind(mark, SOON_S), pipeline.log()
        if pipeline.is_ready():
            break
    assert pipeline.is_ready()
    assert ended == code, pipeline.log()
    written = (pipeline.directory / "out.ipynb").exists()
    assert written == (tool in ("papermill", "nbclient") or code == 0)
    if INTERRUPT in "".join([limit, *options]):
        (error,) = pipeline.errors()
        assert re.match(r"KeyboardInterrupt: interrupted: SIGINT to \d+ processes.*; all are gone", error)


def test_voila_interrupts_a_cell_if_it_is_told_to(pipeline: Pipeline, mark: str) -> None:
    for seconds in LIMITS_S:
        process = pipeline.begin(
            "voila", f"--VoilaExecutor.timeout={seconds}", f"--VoilaExecutor.{INTERRUPT}", "--show_tracebacks=True"
        )
        page = pipeline.page()
        left = [line for line in survivors(mark) if any(program in line for program in NASTY)]
        process.terminate()
        assert process.wait(END_S) == 0
        if pipeline.is_ready():
            break
    assert pipeline.is_ready()
    assert not left
    assert "interrupted: SIGINT to " in page
    assert not left_behind(mark, SOON_S)


def test_voila_gives_a_page_up_and_lets_its_cell_go_on(pipeline: Pipeline, mark: str) -> None:
    """That is voila's default. The command has its own deadline, and it ends with voila."""
    process = pipeline.begin("voila", "--VoilaExecutor.timeout=10")
    assert "Cell execution timed out" in pipeline.page()
    pipeline.wait_until_ready(process)
    assert any("ignores.sh" in line for line in survivors(mark))
    process.terminate()
    process.wait(END_S)
    assert not left_behind(mark, SOON_S)


# -- pgtimeout around the tool ------------------------------------------------------------------------------------


def test_nothing_survives_the_deadline_of_pgtimeout(pipeline: Pipeline, mark: str) -> None:
    # After SIGTERM the tool ends its kernel and itself. On a busy machine that takes longer than the usual grace.
    for seconds in LIMITS_S:
        code = pipeline.finish("jupyter execute", under=(*PGTIMEOUT, "-k", "30", str(seconds)))
        if pipeline.is_ready():
            break
    assert not survivors(mark)  # at once
    assert pipeline.is_ready()
    assert code == 124


def test_the_steps_of_the_workflow(pipeline: Pipeline, tmp_path: Path, mark: str) -> None:
    """What the how-to shows, but for the installation, in a home of its own."""
    (workflow,) = re.findall(r"```yaml\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)
    (profile,) = re.findall(r"- run: \|\n((?: {10}.*\n)+)", workflow)
    *_installation, last = re.findall(r"- run: ([^|\n]+)\n", workflow)
    pipeline.write("%%capture said\n%timeout_shell", "open('said', 'w').write(said.stdout)")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "in.ipynb").rename(tmp_path / "notebooks" / "in.ipynb")
    environment = {name: value for name, value in pipeline.environment.items() if name != "IPYTHONDIR"}
    programs = [installed(tmp_path).parent, Path(sys.executable).parent]
    environment["PATH"] = ":".join([*map(str, programs), environment["PATH"]])
    for step in (textwrap.dedent(profile), last):
        run(
            ["bash", "-e", "-c", step],
            cwd=tmp_path,
            env=environment,
            check=True,
            timeout=START_S,
            preexec_fn=default_signals,
        )
    assert "10m" in (tmp_path / "notebooks" / "said").read_text()
    assert not survivors(mark)
