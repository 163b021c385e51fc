"""What looking costs: `python benchmarks/status.py [--quick]`.

The guard's processor time for a command that sleeps, with and without a live status, for few and for many
processes; the messages of a live status; the bytes of the pictures.
"""

from __future__ import annotations

import sys
from typing import Any

from jupyter_client.manager import start_new_kernel

COUNT = """
import psutil, threading, time
def watch(seconds):
    time.sleep(seconds - 0.5)
    launcher = next(child for child in psutil.Process().children() if child.name() == "pgtimeout")
    cost.append(sum(sum(guard.cpu_times()[:2]) for guard in launcher.children() if guard.children()))
cost = []
"""


def execute(client: Any, code: str) -> tuple[str, int]:
    """The printed text, and the number of display messages."""
    printed: list[str] = []
    displays = 0

    def note(message: dict[str, Any]) -> None:
        nonlocal displays
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])
        displays += message["msg_type"] in ("display_data", "update_display_data")

    client.execute_interactive(code, output_hook=note, timeout=200)
    return "".join(printed), displays


def main() -> None:
    seconds = 4 if "--quick" in sys.argv else 20
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        execute(client, "%load_ext ipython_pgtimeout")
        execute(client, COUNT)
        for processes in (3, 500):
            for option in ("--no-progress", "--progress"):
                execute(client, f"watcher = threading.Thread(target=watch, args=({seconds},)); watcher.start()")
                script = f"for n in {{1..{processes - 1}}}; do sleep {seconds} & done; wait"
                _, messages = execute(client, f"%%timeout_shell {option} --result r 100\n{script}")
                execute(client, "watcher.join()")
                used = float(execute(client, "print(cost[-1])")[0])
                size = execute(client, "print(len(r._repr_mimebundle_()['text/html']))")[0].strip()
                print(
                    f"{processes:3} processes, {seconds} s, {option:13}: guard {used:.2f} s CPU, "
                    f"{100 * used / seconds:.2f} % of one; {messages} display messages; {size} bytes of HTML"
                )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main()
