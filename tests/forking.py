"""A kernel that forks a child in the middle of a command.

The child inherits all descriptors. Python then closes our channel in it, but not in a child that other code forks.
"""

from __future__ import annotations

from .kernels import Reply

_CELL = """
import ctypes, multiprocessing, os, signal, sys
def fork_with_multiprocessing():
    child = multiprocessing.get_context("fork").Process(target=signal.pause)
    child.start()
    return child.pid
def fork_with_os():
    child = os.fork()
    while child == 0:
        signal.pause()
    return child
def fork_with_libc():
    child = ctypes.PyDLL(None).fork()
    while child == 0:
        signal.pause()
    return child
class ForksOnFirstWrite:
    def __init__(self, out):
        self.out, self.forked = out, False
    def write(self, text):
        if not self.forked:
            self.forked = True
            self.out.write(f"forked {{{function}()}} \\n")
        return self.out.write(text)
    def __getattr__(self, name):
        return getattr(self.out, name)
sys.stdout = ForksOnFirstWrite(sys.stdout)
"""


def forking_stdout(function: str) -> str:
    """A cell that makes the kernel fork a child at its next write to stdout, by ``fork_with_os``,
    ``fork_with_multiprocessing`` or ``fork_with_libc``, and print ``forked`` and the child's pid."""
    return _CELL.format(function=function)


def forked_pid(reply: Reply) -> int:
    """The child's pid that a cell has printed after the fork."""
    return int(reply.stdout.split("forked ")[1].split()[0])
