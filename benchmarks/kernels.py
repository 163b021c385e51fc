"""A real kernel to measure in, and rounds in which the contenders take turns."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
from jupyter_client.manager import start_new_kernel

from .figures import Samples


@dataclass
class Cell:
    """What one cell took, and its stream messages with the time each arrived."""

    seconds: float = 0.0
    messages: list[tuple[float, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.messages)


class Kernel:
    """One kernel with the extension loaded."""

    def __init__(self, manager: Any, client: Any) -> None:
        self.client = client
        self.process = psutil.Process(manager.provisioner.pid)

    def execute(self, code: str) -> Cell:
        """Run a cell. The time counts from the request until the kernel is idle and all output has been received."""
        cell = Cell()

        def note(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                cell.messages.append((time.time(), message["content"]["text"]))

        started = time.perf_counter()
        reply = self.client.execute_interactive(code, output_hook=note, timeout=300, store_history=False)
        cell.seconds = time.perf_counter() - started
        assert reply["content"]["status"] == "ok", reply["content"]
        return cell

    def submit(self, code: str) -> str:
        """Start a cell and don't wait. `finish` waits for the cell that this returns."""
        return str(self.client.execute(code, store_history=False))

    def finish(self, identity: str) -> None:
        while self.client.get_shell_msg(timeout=60)["parent_header"].get("msg_id") != identity:
            pass

    def value(self, expression: str) -> Any:
        """The value of a Python expression in the kernel, which must be one that JSON can hold."""
        return json.loads(self.execute(f"import json; print(json.dumps({expression}))").text)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def helpers(self) -> list[psutil.Process]:
        return [child for child in self.process.children(recursive=True) if child.name().startswith("pgtimeout")]


@contextmanager
def kernel(loaded: bool = True) -> Iterator[Kernel]:
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "IPYTHONDIR": directory}
        manager, client = start_new_kernel(kernel_name="python3", env=environment, stderr=subprocess.DEVNULL)
        try:
            started = Kernel(manager, client)
            if loaded:
                started.execute("%load_ext ipython_pgtimeout")
            yield started
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def in_turn(contenders: Mapping[str, Callable[[], float]], rounds: int, pause_s: float = 0.0) -> Samples:
    """Run each contender once per round, in changing order, so that other load on the machine affects all alike."""
    order = list(contenders)
    samples: Samples = {name: [] for name in order}
    shuffled = random.Random(0)
    for name in order:  # first fill caches and import modules
        contenders[name]()
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name in order:
            time.sleep(pause_s)
            samples[name].append(contenders[name]())
    return samples
