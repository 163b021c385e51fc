"""Output on its way through a Jupyter Server with its defaults: it drops what is above a million bytes a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ipython_pgtimeout.spec import FIELDS

from .kernels import LOAD
from .server import Server, serve

pytestmark = [pytest.mark.timeout(150), pytest.mark.alone]  # the server measures bytes a second
LINES = 600_000  # four million bytes: more than it lets through in the three seconds that it looks back
WRITTEN = "".join(f"{n}\n" for n in range(1, LINES + 1))
EXCEEDED = "IOPub data rate exceeded"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        list(running.messages(running.submit(LOAD)))
        yield running


def _shown(server: Server, code: str) -> tuple[str, str]:
    """What arrives of a cell's stdout and stderr."""
    texts = {"stdout": "", "stderr": ""}
    for message in server.messages(server.submit(code)):
        if message["msg_type"] == "stream":
            texts[message["content"]["name"]] += message["content"]["text"]
    return texts["stdout"], texts["stderr"]


def test_output_of_many_megabytes_arrives_whole(server: Server) -> None:
    stdout, stderr = _shown(server, f"%%timeout_shell --max-output 20MB 30\nseq {LINES}")
    assert (len(stdout), stdout == WRITTEN, stderr) == (4_088_895, True, "")


def test_one_long_message_is_lost(server: Server) -> None:
    """The control: text in one message, as in version 0.1, never arrives."""
    constant = "import ipython_pgtimeout.caller.output as o; o._PIECE_BYTES, kept = 10**9, o._PIECE_BYTES"
    _shown(server, constant)
    stdout, stderr = _shown(server, f"%%timeout_shell --max-output 20MB 30\nseq {LINES}")
    _shown(server, "o._PIECE_BYTES = kept")
    assert len(stdout) < 1_000_000
    assert EXCEEDED in stderr


def test_text_without_a_limit_may_be_dropped_as_the_help_says(server: Server) -> None:
    _, stderr = _shown(server, f"%%timeout_shell --max-output inf 30\nseq {LINES}")
    assert EXCEEDED in stderr
    assert "inf is shown at once, and the server may drop a part of it" in FIELDS["max_output"].help
