"""What the whole suite shares."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

HANDLERS = Path(__file__).resolve().parents[1] / "fcgi_handlers"
LANES = {
    "integration/test_bare_hosts": "bare hosts",
    "integration/test_offline_controller": "bare hosts",
    "integration/test_agent_trial": "this machine",
    "integration/test_gates_for_real": "this machine",
    "integration/test_wire_responders": "this machine",
    "integration/test_wire_trial": "this machine",
    "integration/": "provisioned lab",
    "roles/": "this machine",
}
"""What tests share that only one process may use or would have to build twice; the longest come first."""


def pytest_configure() -> None:
    """Take Ctrl-C also where a shell started the suite in its background: what it starts inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def lane(nodeid: str) -> str:
    """Return what a test shares with others: the first match in LANES, else its file."""
    place = nodeid.partition("::")[0].removeprefix("tests/")
    return next((LANES[start] for start in LANES if place.startswith(start)), place)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that several processes end at about the same time."""
    lanes = list(LANES.values())
    items.sort(key=lambda item: lanes.index(own) if (own := lane(item.nodeid)) in lanes else len(lanes))


class ByLane(LoadScopeScheduling):
    """Gives each process of a parallel run whole lanes."""

    def _split_scope(self, nodeid: str) -> str:
        return lane(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByLane:
    """Say which tests stay together when several processes run the suite."""
    return ByLane(config, log)


@pytest.fixture(scope="session")
def handlers_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The handlers as provisioning leaves them on a host: with the C program where that can be compiled."""
    home = tmp_path_factory.mktemp("handlers")
    shutil.copytree(HANDLERS, home / HANDLERS.name, ignore=shutil.ignore_patterns("__pycache__"))
    source = home / HANDLERS.name / "native" / "limit.c"
    if shutil.which("cc"):
        command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", source.with_suffix(""), source, "-lfcgi"]
        subprocess.run(command, capture_output=True, check=False)
    return home


@pytest.fixture(scope="session")
def absent_models(handlers_home: Path) -> dict[str, str]:
    """Models that cannot run on this machine, and why."""
    command = [sys.executable, "-m", HANDLERS.name, "describe"]
    described = subprocess.run(command, cwd=handlers_home, capture_output=True, check=True)
    return {each["name"]: each["reason"] for each in json.loads(described.stdout)["absent"]}


@pytest.fixture
def usr1_restored() -> Iterator[None]:
    """Let a test open counters, which then answer SIGUSR1 in this process."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a skipped test fail the session in CI: a part that cannot run there is a defect of the set-up."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [] if reporter is None else reporter.stats.get("skipped", [])
    if skipped and os.environ.get("CI") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
