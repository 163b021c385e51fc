"""Real ipyparallel clusters, on this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

START_S = 60
ENGINES = 4


@contextlib.contextmanager
def running_cluster(directory: Path, engines: int = ENGINES) -> Iterator[Any]:
    """A running cluster. Its profile, with the connection files, is in ``directory``."""
    ipyparallel = pytest.importorskip("ipyparallel")
    profile = os.fspath(directory / "profile")
    cluster = ipyparallel.Cluster(n=engines, profile_dir=profile, cluster_id="", log_level=50, engine_timeout=START_S)
    try:
        cluster.start_cluster_sync()
        yield cluster
    finally:
        cluster.stop_cluster_sync()


def client_file(cluster: Any) -> str:
    """The file by which a client in another process finds the cluster."""
    return os.path.join(cluster.profile_dir, "security", "ipcontroller-client.json")
