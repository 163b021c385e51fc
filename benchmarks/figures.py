"""A figure: our samples and those of our peers, with goals. All of it can be shown as a table and as JSON.

A sample is the measurement of one round. Medians are compared, because single rounds vary on a shared machine.
The spread shown is from the 10th to the 90th percentile.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Samples = dict[str, list[float]]
OURS = "ours"


@dataclass(frozen=True)
class Goal:
    """A limit for ``at``, a statistic of our samples. With ``against`` it is divided by the statistic of that peer."""

    limit: float
    against: str = ""
    at: str = "median"

    def value(self, samples: Mapping[str, Sequence[float]]) -> float:
        ours = STATISTICS[self.at](samples[OURS])
        return ours / STATISTICS[self.at](samples[self.against]) if self.against else ours


@dataclass(frozen=True)
class Figure:
    """``samples`` are in ``unit``, ours under `OURS`; every other name is a peer's."""

    name: str
    unit: str
    samples: Mapping[str, Sequence[float]]
    goals: tuple[Goal, ...] = ()
    more_is_better: bool = False

    def is_met(self, goal: Goal) -> bool:
        value = goal.value(self.samples)
        return value >= goal.limit if self.more_is_better else value <= goal.limit

    def describe(self, goal: Goal) -> str:
        """``p99 ≤ 5: met, 3.1``"""
        what = "" if goal.at == "median" else f"{goal.at} "
        sign = "≥" if self.more_is_better else "≤"
        verdict = "met" if self.is_met(goal) else "**missed**"
        reached = "" if goal.at == "median" else f", {number(goal.value(self.samples))}"
        return f"{what}{sign} {goal.limit:g}: {verdict}{reached}"

    def rows(self) -> Iterator[list[str]]:
        """The rows of the table: first ours alone, if there are goals without a peer or no peers, then one per peer."""
        peers = [name for name in self.samples if name != OURS]
        absolute = [goal for goal in self.goals if not goal.against]
        head = [f"{self.name}, {self.unit}", spread(self.samples[OURS])]
        if absolute or not peers:
            yield [*head, "", "", "; ".join(map(self.describe, absolute))]
            head = ["", ""]
        for peer in peers:
            ratio = number(Goal(0, peer).value(self.samples)) if statistics.median(self.samples[peer]) else ""
            goals = "; ".join(self.describe(goal) for goal in self.goals if goal.against == peer)
            yield [*head, f"{peer}: {spread(self.samples[peer])}", ratio, goals]
            head = ["", ""]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "samples": {name: _summary(values) for name, values in self.samples.items()},
            "goals": [
                {"text": self.describe(goal), "against": goal.against, "met": self.is_met(goal)} for goal in self.goals
            ],
        }


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least ``percent`` per cent of the samples do not exceed: the nearest rank."""
    return sorted(samples)[max(0, math.ceil(len(samples) * percent / 100) - 1)]


STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "median": statistics.median,
    "p99": lambda samples: percentile(samples, 99),
    "worst": max,
}


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    digits = next((digits for size, digits in ((100, 0), (10, 1), (1, 2)) if abs(value) >= size), 3)
    return f"{value:,.{digits}f}"


def spread(samples: Sequence[float]) -> str:
    median = number(statistics.median(samples))
    if len(samples) == 1:
        return median
    return f"{median} ({number(percentile(samples, 10))} to {number(percentile(samples, 90))})"


def table(figures: Sequence[Figure]) -> str:
    """A table in Markdown."""
    rows = [["figure", OURS, "peer", "ours / peer", "goal"], ["---"] * 5]
    for figure in figures:
        rows += figure.rows()
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _summary(samples: Sequence[float]) -> dict[str, float]:
    summary = {
        "rounds": len(samples),
        "p10": percentile(samples, 10),
        "p90": percentile(samples, 90),
        **{name: statistic(samples) for name, statistic in STATISTICS.items()},
    }
    return {name: round(value, 4) for name, value in summary.items()}
