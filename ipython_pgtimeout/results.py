"""What comes back from a command on several engines: one `Result` for each, and a table of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from .result import CarrierOfResult, Result, describe_in_a_line
from .wording import count


class Results(Sequence[Result]):
    """The results of one command, in the order of ``engines``, the numbers of the engines.

    ``interrupted`` tells that the user has pressed stop. The result of an engine that has died has ``reason``
    ``engine-died``, and ``error`` says more.
    """

    def __init__(self, engines: tuple[int, ...], results: tuple[Result, ...], interrupted: bool = False) -> None:
        self.engines = engines
        self.interrupted = interrupted
        self._results = results

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Result]: ...
    def __getitem__(self, index: int | slice) -> Result | Sequence[Result]:
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    @property
    def ok(self) -> bool:
        """Whether the shell ended by itself on every engine, with exit code 0."""
        return all(result.ok for result in self._results)

    @property
    def failed(self) -> Results:
        """Those that are not `Result.ok`."""
        pairs = [(engine, result) for engine, result in self._pairs() if not result.ok]
        return Results(tuple(engine for engine, _ in pairs), tuple(result for _, result in pairs), self.interrupted)

    def _pairs(self) -> list[tuple[int, Result]]:
        """Each engine with its result."""
        return list(zip(self.engines, self._results, strict=True))

    def check_returncode(self) -> None:
        """Raise what `Result.check_returncode` raises for the first that has failed, with all as ``.results``."""
        for engine, result in self._pairs():
            if not result.ok:
                try:
                    result.check_returncode()
                except CarrierOfResult as error:
                    error.results = self
                    error.sentence = self._sentence(engine, result)
                    raise

    def make_interrupt(self) -> KeyboardInterrupt:
        """KeyboardInterrupt with the first result that was interrupted, and all as ``.results``."""
        pairs = self._pairs()
        engine, first = next((pair for pair in pairs if pair[1].interrupted), pairs[0])
        stop = KeyboardInterrupt(sentence := self._sentence(engine, first))
        stop.result, stop.results = first, self  # type: ignore[attr-defined]
        describe_in_a_line(stop, sentence)
        return stop

    def _sentence(self, engine: int, result: Result) -> str:
        """What is raised tells of one engine, and how many others to look at."""
        others = len(self.failed) - 1
        more = f"; {count(others, 'other engine')} not ok, see .results" if others > 0 else ""
        return f"engine {engine}: {result.summary()}{more}"

    def summary(self) -> str:
        """One sentence: how many engines, and how many of them have failed."""
        failed = len(self.failed)
        how = f"{len(self) - failed} ok, {failed} not" if failed else "all ok"
        return f"{count(len(self), 'engine')}: {how}"

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return self._drawn()["text/plain"]

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return self._drawn()

    def _drawn(self) -> dict[str, str]:
        from .pictures import enginetable  # here and not above: most results are never drawn

        rows = [
            enginetable.Row(engine, result.ok, result.summary(), result.duration, result.stdout)
            for engine, result in self._pairs()
        ]
        return {"text/plain": enginetable.draw_text(rows), "text/html": enginetable.draw_html(rows)}
