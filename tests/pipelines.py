"""Tools that run notebooks, as real processes with settings of their own. No claims about the package here."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import psutil

from .browser import free_port
from .command_lines import default_signals
from .jobs import NASTY, nasty
from .kernels import LOAD
from .watching import marked, wait_until, wait_until_gone

ROOT = Path(__file__).parent.parent
HOW_TO = ROOT / "docs" / "how-to" / "ci.md"
START_S = 90.0
END_S = 60.0
"""How long a tool may take to begin its work, and to end: some ask a busy kernel to end, and wait for it."""

NBCLIENT = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
try:
    NotebookClient(notebook, **eval(f"dict({sys.argv[3]})")).execute()
finally:
    nbformat.write(notebook, sys.argv[2])
"""
TOOLS = {
    "papermill": ["papermill", "in.ipynb", "out.ipynb", "--no-progress-bar"],
    "jupyter execute": ["jupyter", "execute", "in.ipynb", "--output=out"],
    "nbconvert": ["jupyter", "nbconvert", "--execute", "--to=notebook", "in.ipynb", "--output=out"],
    "nbclient": ["-c", NBCLIENT, "in.ipynb", "out.ipynb"],
    "jupytext": ["jupytext", "--execute", "--to=ipynb", "in.py", "--output=out.ipynb"],
    "voila": ["voila", "in.ipynb", "--no-browser", "--Voila.ip=127.0.0.1"],
}
"""The modules and their arguments. Each reads ``in`` and writes ``out`` in its directory; voila only serves a page."""


class Pipeline:
    """A directory with a notebook, and a tool that runs it there, without any of the user's own settings.

    Every process that the tool starts has ``mark`` in its environment, the kernel and the helpers too.
    """

    def __init__(self, directory: Path, mark: str) -> None:
        self.directory = directory
        self._ready = directory / "ready"
        self._log = directory / "log"
        self._mark = mark
        self._processes: list[subprocess.Popen[bytes]] = []
        self._page = ""
        self._asking: threading.Thread | None = None
        folders = ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "JPY"))}
        own = {name: str(directory / name) for name in folders}
        self.environment = {**inherited, **own, "PYTHONPATH": os.fspath(ROOT), "MARK": mark}

    def write(self, *cells: str) -> None:
        v4: Any = nbformat.v4
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells], metadata=kernel)
        for name in ("in.ipynb", "in.py"):
            jupytext.write(notebook, self.directory / name, fmt="ipynb" if name == "in.ipynb" else "py:percent")

    def write_nasty(self) -> None:
        """A notebook whose second cell is the nasty programs, with a deadline that no test waits for."""
        self.write(LOAD, f"%%timeout_shell 90 --log {self._ready}\n{nasty(self._mark)}", "print('next')")

    def write_nasty_without_us(self) -> None:
        self.write(f"%%bash\nexec > {self._ready}\n{nasty(self._mark)}")

    def configure(self) -> None:
        """A profile in which every shell command has a deadline of one second."""
        profile = self.directory / "IPYTHONDIR" / "profile_default"
        profile.mkdir(parents=True)
        lines = ["c = get_config()", 'c.InteractiveShellApp.extensions = ["ipython_pgtimeout"]']
        (profile / "ipython_config.py").write_text("\n".join([*lines, 'c.PgTimeout.everywhere = "1s"']))

    def begin(self, tool: str, *options: str, under: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        """Start the tool, ``under`` another command if given. Of voila, ask for its page."""
        self._ready.unlink(missing_ok=True)
        arguments = [*TOOLS[tool], *options]
        if tool == "nbclient" and not options:
            arguments.append("")
        if tool == "voila":
            port = free_port()
            arguments.append(f"--Voila.port={port}")
            self._asking = threading.Thread(target=self._ask, args=(port,), daemon=True)
            self._asking.start()
        module = [] if tool == "nbclient" else ["-m"]
        with open(self._log, "wb") as log:
            process = subprocess.Popen(
                [*under, sys.executable, *module, *arguments],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=default_signals,
            )
        self._processes.append(process)
        return process

    def finish(self, tool: str, *options: str, under: tuple[str, ...] = ()) -> int:
        """Run the tool to its end. Returns its exit code."""
        return self.begin(tool, *options, under=under).wait(START_S + END_S)

    def is_ready(self) -> bool:
        """Whether all the nasty programs have started what they start."""
        return self._ready.exists() and self._ready.read_text().count("ready") == len(NASTY)

    def wait_until_ready(self, tool: subprocess.Popen[bytes]) -> None:
        assert wait_until(lambda: self.is_ready() or tool.poll() is not None, START_S), self.log()
        assert tool.poll() is None, self.log()

    def log(self) -> str:
        """What the tool has printed."""
        return self._log.read_text(errors="replace")

    def outputs(self, name: str = "out.ipynb") -> list[list[Any]]:
        """The outputs of each code cell, as they were saved."""
        saved: Any = jupytext.read(self.directory / name)
        return [cell.outputs for cell in saved.cells if cell.cell_type == "code"]

    def errors(self, name: str = "out.ipynb") -> list[str]:
        """The exceptions in the saved notebook."""
        found = [output for outputs in self.outputs(name) for output in outputs if output.output_type == "error"]
        return [f"{error.ename}: {error.evalue}" for error in found]

    def page(self) -> str:
        """The page that voila has rendered."""
        assert self._asking is not None
        self._asking.join(START_S)
        return self._page

    def _ask(self, port: int) -> None:
        def answered() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=START_S) as answer:
                    self._page = answer.read().decode()
            except urllib.error.URLError:
                return False  # it does not listen yet
            except OSError:
                pass  # it has ended
            return True

        with contextlib.suppress(Exception):  # such as half an answer, when voila is killed
            wait_until(answered, START_S)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        if self._asking is not None:
            self._asking.join(START_S)


@contextlib.contextmanager
def pipeline_in(directory: Path, mark: str) -> Iterator[Pipeline]:
    with contextlib.closing(Pipeline(directory, mark)) as pipeline:
        yield pipeline


def left_behind(mark: str, within_s: float) -> list[str]:
    """What still runs after that time. While those that are known run, there is no need for costly walks over all."""
    known = marked(mark)
    wait_until(lambda: not any(map(_runs, known)), within_s)
    return wait_until_gone(mark, within_s)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
