"""Jobs in IPython: started by a magic, shown in their cell or told at the next prompt, listed by %timed_jobs."""

from __future__ import annotations

import time
from typing import Any

from IPython.core.error import UsageError

from ..caller.job import Job, list_jobs
from ..caller.output import Pace
from ..pictures import jobtable
from ..pictures.jobtable import Row
from ..spec import Showing, Spec
from ..values import InputError
from ..wording import describe_exit, last_line
from . import buttons
from .frontend import FrontEnd
from .panel import Panel
from .screen import Screen

JOBS_MAGIC = "timed_jobs"
_PATIENCE_S = 0.3
_ELSEWHERE = {"out": "stdout", "err": "stderr", "result": "result"}
"""Options that a job can't have, because the cell is over before there is a value; and where the `Job` has it."""


class Jobs:
    """The jobs of one shell."""

    def __init__(self, ip: Any, pace: Pace) -> None:
        self._ip = ip
        self._pace = pace
        self._untold: list[Job] = []

    def start(self, spec: Spec, showing: Showing, front_end: FrontEnd) -> Job:
        """Start a command in the background, and show it."""
        for option, attribute in _ELSEWHERE.items():
            if getattr(showing, option) is not None:
                raise InputError(f" can't go with --bg; read {showing.job or 'job'}.{attribute}", field=option)
        job = Job(spec, lambda _stream, _text: None)
        if showing.job is not None:
            job.name = showing.job
            self._ip.user_ns[showing.job] = job
        if front_end.kind == "page" and showing.progress:
            self._show(job, front_end)
        else:
            self._untold.append(job)
            notice = f"{job.name} runs in the background; its end is told after a later cell; %{JOBS_MAGIC} lists it"
            Screen(set()).show("notice", notice)
        return job

    def display(self, job: Job) -> None:
        """Show it as the value of the cell that runs now. Raises NotImplementedError where its text is to be shown."""
        front_end = FrontEnd(self._ip)
        if front_end.kind != "page":
            raise NotImplementedError
        self._show(job, front_end)

    def _show(self, job: Job, front_end: FrontEnd) -> None:
        Panel(self._ip, job, self._pace, has_buttons=front_end.has_widgets and buttons.are_available())

    def tell(self, *_: object) -> None:
        """After each cell: which of those that are not shown have ended."""
        ended = [job for job in self._untold if job.is_over]
        self._untold = [job for job in self._untold if job not in ended]
        for job in ended:
            Screen(set()).show("notice", f"{job.name}: {job.summary()}")


class JobTable(dict[str, Job]):
    """What `%timed_jobs` returns: the jobs by their names, shown as they were when it was asked."""

    def __init__(self, jobs: list[Job]) -> None:
        super().__init__((job.name, job) for job in jobs)
        until = time.monotonic() + _PATIENCE_S
        before = {job: job.driven.status for job in jobs if not job.is_over}
        for job in before:
            job.driven.ask(lambda running: running.ask_for_status())
        for job, status in before.items():
            job.driven.wait_until(_has_answered(job, status), until - time.monotonic())
        self._rows = [_row(job) for job in jobs]

    def __repr__(self) -> str:
        return jobtable.draw_text(self._rows)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": jobtable.draw_html(self._rows)}


def list_as_table(line: str) -> JobTable:
    """What `%timed_jobs` does."""
    if line.strip():
        raise UsageError(f"%{JOBS_MAGIC} takes nothing; write %{JOBS_MAGIC} alone")
    return JobTable(list_jobs())


def _has_answered(job: Job, before: object) -> Any:
    return lambda: job.driven.status is not before or job.is_over


def _row(job: Job) -> Row:
    status = None if job.is_over else job.driven.status
    return Row(
        name=job.name,
        state=_state(job),
        elapsed_s=(job.driven.ended_at if job.is_over else time.time()) - job.started_at,
        remaining_s=job.remaining,
        processes=None if status is None else status.processes or None,  # nothing is known before the first look
        memory_bytes=0 if status is None else status.memory_bytes,
        command=job.command.strip().partition("\n")[0],
        last_line=last_line("".join(text for _, text in job.driven.texts.last())),
    )


def _state(job: Job) -> str:
    if job.result is not None:
        return describe_exit(job.result.returncode) if job.result.reason == "exited" else job.result.reason
    if job.driven.error is not None:
        return type(job.driven.error).__name__
    status = job.driven.status
    return f"{status.signal} sent" if status is not None and status.signal else "running"
