"""The client's part: it begins a command on each engine, asks all of them for news, and shows what they tell."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ..caller.interrupts import Interrupts
from ..caller.output import Show, Stream
from ..result import Result, lost_result
from ..results import Results
from ..spec import Spec, make_spec
from ..values import InputError
from ..wording import format_notice
from . import engine
from .engine import Heard

_LOOK_AGAIN_S = 0.05
"""How late an interrupt is noticed at most."""
_BEGINS_WITHIN_S = 0.3
"""How long an engine that is told not to begin is waited for: it may have begun before, and be about to answer."""
_SILENCE_S = 10.0
"""After so long without any answer, the controller is asked whether it is there."""
_GIVES_UP = 3
"""A third press does not wait for engines that do not answer."""


def run_on_engines(view: Any, given: Mapping[str, Any], show: Show) -> Results:
    """Run the command that ``given`` describes, by the keywords of `run`, on every engine of ``view``.

    Output is shown line by line as it comes, each line behind its engine, ``[2] text``. An interrupt ends the command
    on all engines and sets ``Results.interrupted``. Raises InputError, with nothing started.
    """
    client, targets = _engines_of(view)
    specs = [make_spec({**given, "env": env}) for env in _environments(given.get("env"), targets)]
    parts = [
        _Part(client[target], _with_own_log(spec, target), show) for target, spec in zip(targets, specs, strict=True)
    ]
    with Interrupts() as interrupts:
        try:
            for part in parts:
                part.begin()
            _drive(client, parts, interrupts)
        finally:
            for part in parts:
                part.release()
        return Results(tuple(targets), tuple(part.result for part in parts), interrupts.count > 0)


def _drive(client: Any, parts: Sequence[_Part], interrupts: Interrupts) -> None:
    heard_at = time.monotonic()
    presses = 0
    while waiting := [part for part in parts if part.answer is not None]:
        done, _ = concurrent.futures.wait(
            [part.answer for part in waiting], _LOOK_AGAIN_S, concurrent.futures.FIRST_COMPLETED
        )
        if presses < interrupts.count:
            presses = interrupts.count
            for part in waiting:
                part.press(presses)
        now = time.monotonic()
        for part in waiting:
            if part.answer in done:
                part.take_answer()
                heard_at = now
            elif part.is_busy(now):
                part.stop_waiting()
        if presses >= _GIVES_UP:
            reason = "does not answer"
        elif now - heard_at < _SILENCE_S:
            continue
        elif _is_there(client):
            heard_at = time.monotonic()  # the engines are busy: ask again only after as long a silence
            continue
        else:
            reason = "can't be reached: the controller does not answer"
        for part in waiting:
            part.give_up(reason)


class _Part:
    """What one engine does. ``answer`` is what has been asked of it and not been answered, None at the end."""

    def __init__(self, view: Any, spec: Spec, show: Show) -> None:
        self.answer: Any = None
        self._view = view
        self._spec = spec
        self._show = show
        self._key = uuid.uuid4().hex
        self._presses = 0
        self._has_begun = False
        self._abort: concurrent.futures.Future[Any] | None = None
        self._aborted_at = 0.0
        self._lines: dict[Stream, str] = {"stdout": "", "stderr": ""}
        self._result: Result | None = None

    @property
    def _name(self) -> str:
        return f"engine {self._view.targets}"

    @property
    def result(self) -> Result:
        return self._result or self._lost("interrupted", f"{self._name} has not answered")

    def begin(self) -> None:
        self.answer = self._view.apply_async(engine.begin, self._key, self._spec)

    def press(self, presses: int) -> None:
        """The user has pressed stop so often. What has not begun, because the engine is busy, is not to begin."""
        self._presses = presses
        if not self._has_begun and self._abort is None:
            self._abort = self._view.client.abort(self.answer.msg_ids, targets=self._view.targets, block=False)
            self._aborted_at = time.monotonic()

    def is_busy(self, now: float) -> bool:
        """Whether the engine has other work. It agrees meanwhile not to begin, and does not answer that it has."""
        if self._has_begun or self._abort is None or not self._abort.done() or self._abort.exception():
            return False
        return now - self._aborted_at > _BEGINS_WITHIN_S

    def stop_waiting(self) -> None:
        """The engine is busy. Should it have begun after all, it ends the command when it comes to this request."""
        self._view.apply_async(engine.drop, self._key)
        self._result = self._not_started()
        self.answer = None

    def take_answer(self) -> None:
        answer, self.answer = self.answer, None
        try:
            heard: Heard = answer.get(0)
        except Exception as error:
            self._note_failure(error)
            return
        self._has_begun = True
        for stream, text in heard.texts:
            self._note(stream, text)
        if heard.result is not None:
            self._result = heard.result
        elif heard.error:
            self._result = self._lost("engine-died", heard.error)
        else:
            self.answer = self._view.apply_async(engine.hear, self._key, self._presses)
        if self.answer is None:
            self._flush()

    def give_up(self, reason: str) -> None:
        self._result = self._lost("engine-died", f"{self._name} {reason}")
        self.answer = None
        self._flush()

    def release(self) -> None:
        """At an error in the client: end the command. The engine's lease would do so, later."""
        if self.answer is not None:
            self._view.apply_async(engine.drop, self._key)

    def _note_failure(self, error: Exception) -> None:
        name = getattr(error, "ename", type(error).__name__)
        if name == "EngineError":
            self._result = self._lost("engine-died", f"{self._name} has died")
        elif name == "TaskAborted":
            self._result = self._not_started()
        else:
            self._result = self._lost("failed-to-start", f"{name}: {getattr(error, 'evalue', error)}")
        self._flush()

    def _not_started(self) -> Result:
        return self._lost("interrupted", f"not started, {self._name} was busy")

    def _lost(self, reason: str, error: str) -> Result:
        return lost_result(self._spec.command_line, self._spec.timeout, reason, error)

    def _note(self, stream: Stream, text: str) -> None:
        if stream == "notice":
            self._show("stderr", self._prefixed(format_notice(text)))
            return
        *lines, self._lines[stream] = (self._lines[stream] + text).split("\n")
        if lines:
            self._show(stream, self._prefixed("".join(f"{_last_state(line)}\n" for line in lines)))

    def _flush(self) -> None:
        for stream, rest in self._lines.items():
            if rest:
                self._show(stream, self._prefixed(f"{_last_state(rest)}\n"))
            self._lines[stream] = ""

    def _prefixed(self, text: str) -> str:
        return "".join(f"[{self._view.targets}] {line}" for line in text.splitlines(keepends=True))


def _last_state(line: str) -> str:
    """Of a progress bar, which goes back to the start of its line again and again: lines of several engines mix."""
    return line.rstrip("\r").rpartition("\r")[2]


def _engines_of(view: Any) -> tuple[Any, list[int]]:
    """The client, and the numbers of the engines of a view."""
    client, targets = getattr(view, "client", None), getattr(view, "targets", None)
    if client is None or type(view).__name__ == "LoadBalancedView":
        raise InputError(f" can't be {view!r}; write a direct view, for example engines=rc[:]", field="engines")
    numbers = [targets] if isinstance(targets, int) else list(client.ids if targets in (None, "all") else targets)
    if missing := [number for number in numbers if number not in client.ids]:
        raise InputError(f": there is no engine {missing[0]}; there are {client.ids}", field="engines")
    if not numbers:
        raise InputError(": the view has no engines; write for example engines=rc[:]", field="engines")
    return client, numbers


def _environments(env: Any, targets: Sequence[int]) -> list[Any]:
    """The variables for each engine: of a list, one value for each."""
    if not isinstance(env, Mapping):
        return [env] * len(targets)
    for name, value in env.items():
        if isinstance(value, (list, tuple)) and len(value) != len(targets):
            raise InputError(
                f" {name} has {len(value)} values for {len(targets)} engines; write one for each", field="env"
            )
    return [
        {name: _as_text(value[i]) if isinstance(value, (list, tuple)) else value for name, value in env.items()}
        for i in range(len(targets))
    ]


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, (int, float)) else value


def _with_own_log(spec: Spec, target: int) -> Spec:
    """Engines can share a file system: each has a log of its own, ``make.log.2``."""
    return spec if spec.log is None else dataclasses.replace(spec, log=f"{spec.log}.{target}")


def _is_there(client: Any) -> bool:
    """Whether the controller answers. Asked on another thread, because the question has no time limit."""
    question = threading.Thread(target=client.queue_status, daemon=True)
    question.start()
    question.join(_SILENCE_S)
    return not question.is_alive()
