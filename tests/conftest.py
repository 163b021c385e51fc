"""Kernels and marks for all tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from .kernels import LOAD, Kernel
from .watching import kill_marked


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """One kernel with the extension loaded, for all tests of a file: leave it as you found it."""
    with Kernel(LOAD) as shared:
        yield shared


@pytest.fixture
def fresh_kernel() -> Iterator[Kernel]:
    """A kernel of one's own with the extension loaded, to kill or to change."""
    with Kernel(LOAD) as own:
        yield own


@pytest.fixture
def mark() -> Iterator[str]:
    """A word that is nowhere else on the machine. What carries it and still runs after the test is killed then."""
    word = f"mark-{uuid.uuid4().hex}"
    yield word
    kill_marked(word)
