"""A pseudo-terminal for the experiments of notebook 4, and for its project, a shell of one's own."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import psutil
from lesson import expect, naps

# A session leader runs this program. Its standard input becomes the controlling terminal of its session.
TAKE_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
BASH = ("bash", "--norc", "--noprofile", "--noediting", "-i")
PROMPT, CTRL_C, CTRL_D, CTRL_Z, CTRL_BACKSLASH = "$ ", "\x03", "\x04", "\x1a", "\x1c"
_SETTINGS = {
    "PS1": PROMPT,
    "TERM": "dumb",
    "HISTFILE": "/dev/null",
    "PROMPT_COMMAND": "",
    "LC_ALL": "C",
    "PYTHON_COLORS": "0",
}


class Terminal:
    """A new pseudo-terminal and a program that leads a session on it. ``screen`` is all that it has shown."""

    def __init__(self, argv: Sequence[str] = BASH, pass_fds: Sequence[int] = ()) -> None:
        self.master, end = os.openpty()
        self.leader = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", TAKE_TERMINAL, *argv],
            stdin=end,
            stdout=end,
            stderr=end,
            pass_fds=pass_fds,
            start_new_session=True,
            env={**os.environ, **_SETTINGS},
        )
        os.close(end)
        self.screen = ""
        self._seen = 0

    def read(self) -> None:
        """Add to the screen what is shown within a moment."""
        if select.select([self.master], [], [], 0.02)[0]:
            try:
                self.screen += os.read(self.master, 65536).decode(errors="replace").replace("\r", "")
            except OSError:  # no process has the other end open
                time.sleep(0.02)

    def until(self, condition: Callable[[], object], fault: str, deadline_s: float = 20) -> None:
        """Wait for the condition. NotYet with the fault if it does not come true in time."""
        limit = time.monotonic() + deadline_s
        while not condition():
            expect(time.monotonic() < limit, fault)
            self.read()

    def wait_for(self, text: str = PROMPT, fault: str = "the text is not shown") -> str:
        """Wait until the text is shown. Returns what was shown before it, since the last call."""
        self.until(lambda: text in self.screen[self._seen :], fault)
        shown, _, rest = self.screen[self._seen :].partition(text)
        self._seen = len(self.screen) - len(rest)
        return shown

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self.master, keys.encode())

    def run(self, line: str, fault: str = "the prompt does not come back") -> str:
        """Type a command line. Returns what is shown until the next prompt, without the line itself."""
        self.type(line + "\n")
        return self.wait_for(PROMPT, f"`{line}`: {fault}").partition("\n")[2]

    def foreground(self) -> int:
        """The foreground process group."""
        return os.tcgetpgrp(self.master)

    def naps(self) -> list[psutil.Process]:
        """The sleepers in the session of this terminal."""
        found = []
        for process in naps():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(process.pid) == self.leader.pid:
                    found.append(process)
        return found

    def hang_up(self) -> None:
        """Close our end of the terminal, the master: so does a window that is closed."""
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        """End the leader and hang up."""
        self.leader.kill()
        self.leader.wait()
        if self.master >= 0:
            self.hang_up()


class Shell(Terminal):
    """The students' shell on a terminal."""

    def __init__(self, program: str) -> None:
        super().__init__([sys.executable, "-c", program])

    def wait_for_first_prompt(self) -> None:
        """Give the program time to start."""
        super().until(
            lambda: PROMPT in self.screen or self.has_ended(), f"the shell does not show the prompt {PROMPT!r}"
        )
        self.wait_for(PROMPT, "the shell does not show a prompt")

    def has_ended(self) -> bool:
        """Whether the shell is gone."""
        return self.leader.poll() is not None

    def until(self, condition: Callable[[], object], fault: str, deadline_s: float = 5) -> None:
        """As for each terminal, but the end of the shell is a fault."""
        super().until(lambda: condition() or self.has_ended(), fault, deadline_s)
        self.read()
        last = self.screen.strip().split("\n")[-1]
        hint = " Was that tcsetpgrp in the background? See SIGTTOU." if "OSError" in last else ""
        expect(condition(), f"the shell itself has ended; its last line is {last!r} ({fault}).{hint}")

    def until_back(self, after: str) -> None:
        """Wait for the prompt. The shell must have the terminal again."""
        self.wait_for(PROMPT, f"no prompt after {after}")
        self.until_in_front(after)

    def until_in_front(self, after: str) -> None:
        """Wait until the shell's group is the foreground group."""
        self.until(lambda: self.foreground() == self.leader.pid, f"after {after} the shell is not in the foreground")

    def start(self, line: str, count: int) -> int:
        """Type a line that starts so many sleepers. Returns their group, which must come to the foreground."""
        old = {process.pid for process in self.naps()}
        self.type(line + "\n")
        self.until(lambda: len(self.naps()) == len(old) + count, f"`{line}` does not start {count} processes")

        def groups() -> set[int]:
            return {os.getpgid(process.pid) for process in self.naps() if process.pid not in old}

        self.until(lambda: self.leader.pid not in groups(), f"`{line}` is in the shell's own group: see os.setpgid", 2)
        self.until(lambda: len(groups()) == 1, f"`{line}` is {len(groups())} process groups, and must be one", 2)
        self.until(lambda: self.foreground() in groups(), f"`{line}` is not in the foreground: see os.tcsetpgrp", 2)
        return groups().pop()

    def states(self, group: int) -> list[str]:
        """The states of the sleepers in a group."""
        found: list[str] = []
        for process in self.naps():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getpgid(process.pid) == group:
                    found.append(process.status())
        return found

    def lists(self, number: int, state: str) -> None:
        """The command ``jobs`` shows this job in this state."""
        shown = self.run("jobs")
        fault = f"`jobs` shows {shown[-80:]!r}; job [{number}] must be there as {state}"
        expect(re.search(rf"^\[{number}\].*{state}", shown, re.I | re.M), fault)

    def computes(self) -> None:
        """A simple command works."""
        shown = self.run("expr 20 + 22")
        expect(shown.strip() == "42", f"`expr 20 + 22` shows {shown[-80:]!r}")
        self.until_in_front("a command")
