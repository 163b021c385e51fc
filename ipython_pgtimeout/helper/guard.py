"""A process of its own, in which one command after the other is supervised. It never imports IPython.

The guard is forked by the launcher and is a subreaper: every orphan of a command becomes its child. So "nothing is
left" is ECHILD from waitpid(2), a fact and not a guess, and no daemon hides by forking twice. And because it is
another process than the caller, no KeyboardInterrupt, busy interpreter lock or crash of the caller can delay a kill or
prevent it.

A guard that has nothing left waits for the next command. A new one for each would cost 2 ms of processor time, most
of it for memory that is shared with the launcher and copied page by page as Python touches it.
"""

from __future__ import annotations

import os
import select

from ..shared import debuglog
from ..shared.channel import Channel
from ..shared.processes import GUARD
from ..shared.protocol import Message, Ready, Request
from ..shared.walk import make_room
from . import prctl, priority
from .attributes import Attributes
from .childwatch import ChildWatch
from .link import Link
from .supervision import Supervision


def main(channel: Channel, caller_fd: int | None, attributes: Attributes) -> None:
    """Supervise one command after another. Returns when nothing is left and no more requests can come.

    ``attributes`` are those that the launcher had at its start. If this process has others, it reads no request: the
    caller then knows that nothing was started, and takes another launcher.
    """
    priority.set_niceness(attributes.inheritance.niceness)  # the launcher may be in a hurry
    if Attributes.current() != attributes:
        debuglog.note("guard", "is not as it should be")
        return
    make_room()
    children = ChildWatch()
    link = Link(channel, caller_fd)
    prctl.set_name(GUARD)
    adopts = prctl.become_subreaper()
    prctl.be_continued_at_death_of_parent()
    os.setsid()  # a signal to the launcher's process group must not hit the guards
    link.send(Ready(os.getpid()))
    debuglog.note("guard", "is ready")
    is_free = True
    while is_free and (messages := _await_request(link)):
        is_free = Supervision(messages, attributes, link, children, adopts).run()
    _flush(link)
    debuglog.note("guard", "ends")


def _await_request(link: Link) -> list[Message]:
    """Wait for a request. Returns it and what came with it; nothing if the caller is gone or has released the guard."""
    messages: list[Message] = []
    while link.is_open:
        readable, writable, _ = select.select(link.readable, link.writable, [])
        if writable:
            link.flush()
        for fd in readable:
            messages += link.receive(fd)
        # What comes before a request was meant for the last command: an interrupt sent while `Done` was in flight.
        while messages and not isinstance(messages[0], Request):
            del messages[0]
        if messages:
            return messages if link.is_open else []
    return []


def _flush(link: Link) -> None:
    """Send the last report completely, even if the caller is slow to read it."""
    while link.writable:
        readable, _, _ = select.select(link.readable, link.writable, [])
        link.flush()
        for fd in readable:
            link.receive(fd)
