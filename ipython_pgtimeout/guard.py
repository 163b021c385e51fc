"""A process of its own, in which one command after the other is supervised. It never imports IPython.

The guard is forked by the launcher, has one thread, and is a subreaper: every orphan of a command becomes
its child. So "nothing is left" is ECHILD from waitpid(2), a fact and not a guess, and no daemon hides by
forking twice. And because it is another process than the kernel, no KeyboardInterrupt, busy interpreter
lock or crash over there can delay a kill or break it.

A guard that has nothing left waits for the next command. A new one for each would cost 2 ms of processor
time, most of it for memory that is shared with the launcher and copied page by page as Python touches it.
"""

from __future__ import annotations

import os
import select

from . import processes
from .inheritance import Inheritance
from .protocol import Channel, Message, Request
from .supervision import Supervision


def main(channel: Channel, kernel_fd: int | None) -> None:
    """Wait for a request, see it through, and again. Returns when nothing is left and nobody will ask any more."""
    children = processes.ChildWatch()
    processes.set_name(f"{processes.HELPER}-guard")
    processes.become_subreaper()
    os.setsid()  # whoever signals the launcher's group must not hit the guards with it
    mine = Inheritance.current()
    is_free = True
    while is_free and (messages := _await_request(channel, kernel_fd)):
        is_free = Supervision(messages, mine, channel, kernel_fd, children).run()


def _await_request(channel: Channel, kernel_fd: int | None) -> list[Message]:
    """A request, and what may have come with it; nothing if the kernel is gone or has no use for us any more."""
    watched: list[Channel | int] = [channel] if kernel_fd is None else [channel, kernel_fd]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if kernel_fd in ready:
            return []
        try:
            messages = channel.receive()
        except EOFError:
            return []
        # What comes before a request was for the last command: an interrupt that has crossed with our word of its end.
        while messages and not isinstance(messages[0], Request):
            del messages[0]
        if messages:
            return messages
