"""A real Jupyter Server, and a client on its websocket as a browser has it. No claims about the package here."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket

from .watching import wait_until

START_S = 60.0


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    """Run a Jupyter Server with its defaults on loopback, apart from the user's own files and settings."""
    with tempfile.TemporaryDirectory(prefix="pgtimeout-server-", ignore_cleanup_errors=True) as directory:
        token = secrets.token_hex()
        folders = ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
        options = {"ServerApp.ip": "127.0.0.1", "ServerApp.port": 0, "ServerApp.allow_root": True}
        # With setpriv(1), the server gets SIGTERM when the test session is killed.
        with_death_signal = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        command = [*with_death_signal, sys.executable, "-m", "jupyter_server", f"--IdentityProvider.token={token}"]
        with open(Path(directory, "log"), "wb") as log:
            process = subprocess.Popen(
                [*command, *(f"--{name}={value}" for name, value in options.items())],
                cwd=directory,
                env={**os.environ, **{name: str(Path(directory, name)) for name in folders}},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            with contextlib.closing(Server(Path(directory), token)) as server:
                yield server
        finally:
            process.terminate()
            process.wait(30)


class Server:
    """A running server and one kernel of it."""

    def __init__(self, directory: Path, token: str) -> None:
        self._directory = directory
        self._headers = {"Authorization": f"token {token}"}
        assert wait_until(lambda: self._request("api/status"), START_S), Path(directory, "log").read_text()
        kernel = self._request("api/kernels", "POST")["id"]
        address = f"{self._url()}api/kernels/{kernel}/channels".replace("http", "ws", 1)
        self._socket = websocket.create_connection(address, timeout=START_S, header=self._headers)

    def close(self) -> None:
        """Leave the server, which ends the kernel when it is ended itself."""
        self._socket.close()

    def _url(self) -> str:
        (path,) = self._directory.glob("JUPYTER_RUNTIME_DIR/jpserver-*.json")
        return str(json.loads(path.read_text())["url"])

    def _request(self, path: str, method: str = "GET") -> Any:
        """The answer of the server's REST interface. None if there is none (yet)."""
        with contextlib.suppress(OSError, ValueError):
            request = urllib.request.Request(self._url() + path, method=method, headers=self._headers)
            with urllib.request.urlopen(request, timeout=START_S) as answer:
                return json.load(answer)
        return None

    def submit(self, code: str) -> str:
        """Send a cell. Returns the id of the message."""
        message_id = uuid.uuid4().hex
        header = {"msg_id": message_id, "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3"}
        content = {"code": code, "silent": False, "allow_stdin": False, "stop_on_error": False}
        self._socket.send(
            json.dumps({"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content})
        )
        return message_id

    def messages(self, message_id: str) -> Iterator[dict[str, Any]]:
        """What comes back on the iopub, until the cell is over."""
        while True:
            message = json.loads(self._socket.recv())
            if message["channel"] != "iopub" or message["parent_header"].get("msg_id") != message_id:
                continue
            yield message
            if message["content"].get("execution_state") == "idle":
                return
