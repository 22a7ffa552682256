"""What the whole suite shares."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

HANDLERS = Path(__file__).resolve().parents[1] / "fcgi_handlers"
ON_HOSTS = {"integration", "roles"}
"""Folders of tests that provision or measure: one after the other, for they share builds and packages."""


def pytest_configure() -> None:
    """Take Ctrl-C also where a shell started the suite in its background: what it starts inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class ByPlace(LoadScopeScheduling):
    """Gives each process of a parallel run whole files, and all tests that need hosts to the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "hosts" if Path(file).parts[1] in ON_HOSTS else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByPlace:
    """Say which tests stay together when several processes run the suite."""
    return ByPlace(config, log)


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


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a skipped test fail the session in CI: a part that cannot run there is a defect of the set-up."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [] if reporter is None else reporter.stats.get("skipped", [])
    if skipped and os.environ.get("CI") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
