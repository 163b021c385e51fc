"""What the kernel reports of each fork, execve and exit: the process events connector of Linux, cn_proc.

With these events the lives of a command's processes are exact; without them they are sampled by looks. They can be had
without privileges since Linux 6.6, and only in the initial PID, user and network namespaces: in most containers not.
They are those of the whole machine, and so they are read only as long as that is cheap.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time

from ..shared.processes import UNSEEN, look_up
from .lives import Lives

_NETLINK_CONNECTOR = 11
_CN_IDX_PROC = _CN_VAL_PROC = 1
_LISTEN = 1
_FORK, _EXEC, _SID, _EXIT = 0x1, 0x2, 0x80, 0x80000000
_SUBSCRIPTION = struct.Struct("=IHHII IIIIHH I")
"""The headers of netlink(7) and of the connector, and the operation."""
_HEADERS_BYTES = 36
_EVENT = struct.Struct("=IxxxxQ IIII")
"""The kind, the time by CLOCK_MONOTONIC in ns, and the first four numbers: proc_event in linux/cn_proc.h."""
_CREDIT_S = 0.02
_SHARE = 0.01
"""How much of a processor reading may take after the first 0.02 s of it. On a machine where more processes than that
start and end, the lives are sampled."""


class EventReader:
    """Records the events of a command's processes in ``lives``, in a thread of its own, until `stop`."""

    def __init__(self, lives: Lives) -> None:
        """Raises OSError where there can be no events."""
        self._lives = lives
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
        try:
            self._socket.bind((0, _CN_IDX_PROC))
            self._socket.setblocking(False)
            self._socket.send(_subscription())
            self._socket.recv(4096)  # the answer, which is there at once; there is none in another namespace
            self._stopping = os.eventfd(0)
        except BaseException:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._read, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._socket.close()
            os.close(self._stopping)
            raise OSError(str(error)) from None

    def stop(self, timeout_s: float) -> bool:
        """Read no more. False if the thread could not be ended in that time."""
        os.eventfd_write(self._stopping, 1)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        os.close(self._stopping)
        return True

    def _read(self) -> None:
        started_s = time.monotonic()
        with self._socket:
            while time.thread_time() < _CREDIT_S + _SHARE * (time.monotonic() - started_s):
                if self._stopping in select.select([self._socket.fileno(), self._stopping], [], [])[0]:
                    return
                try:
                    self._record(self._socket.recv(4096))
                except OSError:  # some were lost, because they came faster than they were read
                    return

    def _record(self, message: bytes) -> None:
        if len(message) < _HEADERS_BYTES + _EVENT.size:
            return
        kind, at_ns, first, process, child_thread, child = _EVENT.unpack_from(message, _HEADERS_BYTES)
        at_s = at_ns / 1e9
        if kind == _FORK and child_thread == child:  # otherwise it is a new thread
            self._lives.record_fork(process, child, at_s)
        elif kind == _EXEC:
            if self._lives.knows(process):
                found = look_up(process)
                self._lives.record_execve(process, UNSEEN if found is None or found.has_ended else found.command)
        elif kind == _SID:
            self._lives.record_setsid(process)
        elif kind == _EXIT and first == process:
            self._lives.record_exit(process, at_s)


def _subscription() -> bytes:
    # Not for some kinds of events alone, which Linux 6.6 offers: there would be no answer.
    netlink = _SUBSCRIPTION.size, 3, 0, 0, os.getpid()
    connector = _CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0
    return _SUBSCRIPTION.pack(*netlink, *connector, _LISTEN)
