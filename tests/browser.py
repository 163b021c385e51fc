"""JupyterLab and Notebook 7 in a real browser, driven as a user drives them. No claims about the package here."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import psutil
import pytest

from .kernels import LOAD
from .watching import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Locator, Page

START_S = 60.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_QUIET = [
    *("--disable-gpu", "--disable-quic", "--disable-sync", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
]
_IDLE = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
# A poll can miss [*] between [1] and [1], which a prompt reads before and after a restart of the kernel.
_NOTE_A_CHANGE = """
prompt => {
  delete prompt.dataset.changed;
  const observer = new MutationObserver(() => { prompt.dataset.changed = "yes"; observer.disconnect(); });
  observer.observe(prompt, {childList: true, characterData: true, subtree: true});
}"""
_OPEN = """
async name => {
  jupyterapp.shell.expandLeft();
  await jupyterapp.commands.execute('docmanager:open', {path: name});
}"""
_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "docmanager-extension/plugin": {"autosave": False},
}


def missing_requirement() -> str:
    """The first requirement of these tests that is not installed; empty if all are."""
    for module in ("playwright", "jupyterlab", "notebook"):
        if importlib.util.find_spec(module) is None:
            return module
    return "" if _browser() else "chromium"


def _browser() -> str | None:
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def open_lab() -> Iterator[Lab]:
    """Open one server and one browser, for a module's fixture. If a requirement is missing, skip, or fail in CI."""
    if requirement := missing_requirement():
        if os.environ.get("CI"):
            pytest.fail(f"no {requirement}")
        pytest.skip(f"no {requirement}")
    with contextlib.closing(Lab()) as lab:
        yield lab


class Lab:
    """A Jupyter Server with JupyterLab on loopback, apart from the user's own files and settings, and a browser."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise

    def _start(self) -> None:
        from playwright.sync_api import sync_playwright

        self.directory = Path(self._stack.enter_context(_directory()))
        self.notebooks = self.directory / "notebooks"
        self.notebooks.mkdir()
        self._token = secrets.token_hex()
        self._log = self.directory / "server.log"
        self._process = self._start_server()
        self._stack.callback(self._stop)
        playwright = self._stack.enter_context(sync_playwright())
        self._browser: Browser = playwright.chromium.launch(executable_path=_browser(), args=_QUIET)
        self._stack.callback(self._browser.close)
        self._kept_page: Page | None = None
        self._url = self._wait(self._written_url, "a server")
        self._wait(lambda: self.request("api/status"), "an answer")

    def _written_url(self) -> str:
        """The server's address. "" as long as its file is missing or not yet written to the end."""
        for path in self.directory.glob("runtime/jpserver-*.json"):
            with contextlib.suppress(json.JSONDecodeError):
                return str(json.loads(path.read_text())["url"])
        return ""

    def _start_server(self) -> subprocess.Popen[bytes]:
        home = {
            "HOME": ".",
            "IPYTHONDIR": "ipython",
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }
        for name, settings in _SETTINGS.items():
            file = self.directory / f"settings/@jupyterlab/{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(settings))
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": free_port(),
            "ServerApp.port_retries": 50,
            "ServerApp.root_dir": self.notebooks,
            "ServerApp.allow_root": True,
            "IdentityProvider.token": self._token,
            "LabApp.expose_app_in_browser": True,
            "JupyterNotebookApp.expose_app_in_browser": True,
        }
        # With setpriv(1), the server gets SIGTERM when the test session is killed.
        with_death_signal = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        command = [*with_death_signal, sys.executable, "-m", "jupyterlab", "--no-browser"]
        with open(self._log, "wb") as log:
            return subprocess.Popen(
                [*command, *(f"--{key}={options[key]}" for key in options)],
                cwd=self.directory,
                env={**os.environ, **{name: str(self.directory / path) for name, path in home.items()}},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait(self, condition: Callable[[], Any], what: str) -> Any:
        found: list[Any] = []

        def holds() -> bool:
            assert self._process.poll() is None, f"the server has ended: {self.log()}"
            found[:] = [condition()]
            return bool(found[0])

        assert wait_until(holds, START_S), f"waited {START_S} s for {what}: {self.log()}"
        return found[0]

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(15)

    def close(self) -> None:
        self._stack.close()

    def log(self) -> str:
        """The server's log."""
        return self._log.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """The server's children: its kernels."""
        return psutil.Process(self._process.pid).children()

    def request(self, path: str, method: str = "GET") -> Any:
        """Send a request to the server's REST interface. Returns None if the server does not answer."""
        headers = {"Authorization": f"token {self._token}"}
        request = urllib.request.Request(self._url + path, method=method, headers=headers)
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
            return json.loads(body) if body else True
        return None

    @contextlib.contextmanager
    def notebook(
        self, *cells: str, dark: bool = False, width: int = 1100, app: str = "lab", own_page: bool = False
    ) -> Iterator[Notebook]:
        """Open a new notebook with these cells. A cell before them has loaded the extension. ``app`` is ``lab``, or
        ``notebooks`` for Notebook 7. A page of JupyterLab is kept for the next notebook, because to load it takes four
        times as long as to open a notebook in it; not if ``own_page`` is set, and not after a failure."""
        name = f"{secrets.token_hex(4)}.ipynb"
        made: Any = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
            cells=[nbformat.v4.new_code_cell(cell) for cell in (LOAD, *cells)],  # type: ignore[no-untyped-call]
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        (self.notebooks / name).write_text(nbformat.writes(made))  # type: ignore[no-untyped-call]
        try:
            with self._page(name, app, is_kept=app == "lab" and not own_page) as page:
                page.set_viewport_size({"width": width, "height": 1000})
                with contextlib.closing(Notebook(self, page, name)) as shown:
                    shown.set_theme(dark)
                    shown.run_to_end(0)
                    yield shown
                    assert app != "lab" or not shown.errors  # Notebook 7.6 has errors of its own when it loads settings
        finally:
            for session in self.request("api/sessions") or []:
                self.request(f"api/sessions/{session['id']}", "DELETE")

    @contextlib.contextmanager
    def _page(self, name: str, app: str, is_kept: bool) -> Iterator[Page]:
        """A page that shows the notebook: the kept one, or one that shares nothing with another."""
        page = self._kept_page if is_kept else None
        if page is not None:
            self._kept_page = None
            page.evaluate(_OPEN, name)
        else:
            page = self._browser.new_context(device_scale_factor=1.5).new_page()
            page.set_default_timeout(START_S * 1000)
            place = f"lab/workspaces/{secrets.token_hex(4)}/tree" if app == "lab" else app
            page.goto(f"{self._url}{place}/{name}?token={self._token}")
        try:
            yield page
            if is_kept and not page.is_closed():
                page.evaluate("jupyterapp.shell.currentWidget.dispose()")  # without a question
                self._kept_page = page
        finally:
            if page is not self._kept_page:
                page.context.close()


class Notebook:
    """The page of one notebook. Cells count from 0. Cell 0 loads the extension."""

    def __init__(self, lab: Lab, page: Page, name: str) -> None:
        self.lab = lab
        self.page = page
        self.name = name
        self.errors: list[str] = []
        page.on("pageerror", self._note_error)
        page.on("dialog", self._dismiss)
        self.wait_idle()

    def close(self) -> None:
        """Leave the page, which may show another notebook next."""
        self.page.remove_listener("pageerror", self._note_error)
        self.page.remove_listener("dialog", self._dismiss)

    def _note_error(self, error: Exception) -> None:
        self.errors.append(str(error))

    def _dismiss(self, dialog: Dialog) -> None:
        if dialog.type == "beforeunload":  # a job has changed the notebook since it was saved
            dialog.accept()
            return
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    # -- what a user does ---------------------------------------------------------------------------------

    def run(self, cell: int) -> Locator:
        """Press Ctrl+Enter in the cell and don't wait. Returns its output area."""
        editor, prompt = self.cell(cell).locator(".cm-content"), self.cell(cell).locator(".jp-InputPrompt")
        prompt.evaluate(_NOTE_A_CHANGE)
        editor.click()
        editor.press("Control+Enter")
        assert wait_until(lambda: prompt.get_attribute("data-changed"), 20), f"cell {cell} does not run"
        return self.output(cell)

    def run_to_end(self, cell: int, timeout_s: float = 60.0) -> Locator:
        output = self.run(cell)
        self.wait_over(cell, timeout_s)
        return output

    def press(self, button: str) -> None:
        """Press a button of the notebook's toolbar: ``interrupt``, ``restart``."""
        self.page.locator(f'.jp-NotebookPanel-toolbar [data-jp-item-name="{button}"]').locator(
            "button, jp-button"
        ).first.click()

    def save_and_reload(self) -> None:
        """Save the notebook and load its page again, without what else the page may have shown before."""
        self.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
        self.page.evaluate("history.replaceState(null, '', '?reset')")
        self.page.reload()
        self.wait_idle()

    def confirm(self) -> None:
        """Accept the dialog that asks for confirmation."""
        self.page.locator(".jp-Dialog .jp-mod-accept").click()

    # -- what is on the screen ----------------------------------------------------------------------------

    def cell(self, cell: int) -> Locator:
        return self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{cell}"]')

    def output(self, cell: int) -> Locator:
        return self.cell(cell).locator(".jp-OutputArea-output")

    def prompt(self, cell: int) -> str:
        """``[*]:`` while the cell runs, ``[3]:`` when it has run."""
        return self.cell(cell).locator(".jp-InputPrompt").inner_text()

    def wait_over(self, cell: int, timeout_s: float = 60.0) -> None:
        """Wait until the cell has run and shows its number, and the kernel is idle."""
        from playwright.sync_api import expect

        prompt = self.cell(cell).locator(".jp-InputPrompt")
        expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=timeout_s * 1000)
        self.wait_idle(timeout_s)

    def wait_idle(self, timeout_s: float = START_S) -> None:
        """Wait until there is an idle kernel and the page shows it as idle."""
        from playwright.sync_api import TimeoutError as PageTimeout

        try:
            self.page.wait_for_function(_IDLE, timeout=timeout_s * 1000)
        except PageTimeout as error:
            raise TimeoutError(f"the kernel is not idle after {timeout_s} s: {self.lab.log()[-3000:]}") from error
        indicator = self.page.locator('.jp-NotebookPanel-toolbar .jp-Notebook-ExecutionIndicator[data-status="idle"]')
        indicator.wait_for(timeout=timeout_s * 1000)

    def set_theme(self, dark: bool) -> None:
        name = "JupyterLab Dark" if dark else "JupyterLab Light"
        self.page.evaluate("name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        self.page.locator(f'body[data-jp-theme-light="{str(not dark).lower()}"]').wait_for(state="attached")


def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="pgtimeout-lab-", ignore_cleanup_errors=True)


def free_port() -> int:
    """A port of the loopback interface on which nobody listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
