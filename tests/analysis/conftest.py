from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from synthetic_runs import Recipe, write_run


@pytest.fixture(scope="session")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete synthetic run on two hosts, ten blocks, both handlers."""
    return write_run(tmp_path_factory.mktemp("results"), Recipe())
