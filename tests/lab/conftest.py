"""Labs of these tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab, testing

PREFIX = "u"


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skip where hosts made of namespaces cannot be had, and say why."""
    reason = testing.why_no_namespaces()
    if reason:
        pytest.skip(f"no lab in namespaces on this machine: {reason}")
    testing.remove_stale(PREFIX)


@pytest.fixture(scope="session")
def lab(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts that the tests share and leave as they were."""
    inventory = tmp_path_factory.mktemp("inventory") / "10-lab.yml"
    with Lab(testing.own_name(PREFIX), inventory=inventory) as lab:
        yield lab


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory that no other test sees."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "fcgi-sweep" / "lab"
