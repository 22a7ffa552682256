"""The one door to Ansible: through ansible-runner, with a fresh private directory each time."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner

from controller.errors import InventoryError

ENVIRONMENT: Mapping[str, str] = {
    # the programs of this interpreter's environment, whether or not it was activated
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_DEPRECATION_WARNINGS": "0",
    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
}
# anything but `jsonfile`, whose directory ansible-runner would throw away: groups are derived from kept facts
OURS = "as in ansible.cfg"


@dataclass(frozen=True, slots=True)
class HostSummary:
    """How a playbook ended on one host.

    Attributes
    ----------
    ok, changed, failed : int
        Numbers of tasks.
    unreachable : bool
        Whether Ansible lost the host or never reached it.
    reason : str
        What failed and why, empty if nothing did.
    """

    ok: int
    changed: int
    failed: int
    unreachable: bool
    reason: str = ""

    @property
    def good(self) -> bool:
        """Whether every task on the host succeeded."""
        return not self.failed and not self.unreachable


@dataclass(slots=True)
class PlaybookResult:
    """How a playbook ended.

    Attributes
    ----------
    status : str
        `successful`, `failed`, `canceled` or `timeout`.
    hosts : dict of str to HostSummary
        Hosts that the playbook got as far as trying.
    output : str
        What Ansible wrote besides its events, for the case that there are no hosts.
    """

    status: str
    hosts: dict[str, HostSummary] = field(default_factory=dict)
    output: str = ""


PLACED_CAUSE = re.compile(r"^(?P<cause>.+)\nOrigin: (?P<place>.+:\d+:\d+)$", re.MULTILINE)
# its words would stand among the JSON
SILENT = {"ANSIBLE_VERBOSITY": "0", "ANSIBLE_DEBUG": "0"}


def read_inventory_document(inventory: Path, pattern: str, playbook_dir: Path) -> dict[str, Any]:
    """Return what `ansible-inventory --list` says about the hosts of a pattern.

    Raises
    ------
    InventoryError
        When Ansible cannot read the inventory.
    """
    if not inventory.exists():
        raise InventoryError(f"{inventory}: no such inventory; name one with --inventory")
    with tempfile.TemporaryDirectory(prefix="fcgi-sweep-") as private:
        output, errors, code = ansible_runner.run_command(
            executable_cmd="ansible-inventory",
            cmdline_args=["-i", str(inventory.resolve()), "--playbook-dir", str(playbook_dir),
                          "--list", "--limit", pattern],
            private_data_dir=private,
            envvars={**ENVIRONMENT, **_configuration(playbook_dir), **SILENT},
            fact_cache_type=OURS,
            quiet=True,
            runner_mode="subprocess",
        )  # fmt: skip
    if code != 0:
        complaint = (
            _placed_cause(errors)
            or _first_line(errors)
            or _first_line(output)
            or f"ansible-inventory ended with {code}"
        )
        raise InventoryError(f"{inventory}: Ansible cannot use this inventory: {complaint}")
    document = json.loads(output)
    if not isinstance(document, dict):
        raise InventoryError(f"{inventory}: ansible-inventory printed no mapping")
    return document


def run_playbook(
    playbook: Path,
    inventory: Path,
    limit: str,
    tell: Callable[[Mapping[str, Any]], None],
    extra_vars: Mapping[str, Any] | None = None,
) -> PlaybookResult:
    """Run a playbook and report its events as they come.

    Parameters
    ----------
    playbook : Path
        The playbook; its folder is the project directory.
    inventory : Path
        Inventory file or directory.
    limit : str
        Host pattern.
    tell : callable
        Called with each event of ansible-runner, on a thread of its own.
    extra_vars : mapping, optional
        Passed on as extra variables.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C, when Ansible has ended.
    """
    events: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
    reasons: dict[str, str] = {}
    stats: dict[str, Mapping[str, int]] = {}
    listener = threading.Thread(target=_listen, args=(events, reasons, stats, tell), daemon=True)
    listener.start()
    with tempfile.TemporaryDirectory(prefix="fcgi-sweep-") as private, _own_signal_handlers():
        runner = ansible_runner.run(
            private_data_dir=private,
            project_dir=str(playbook.parent.resolve()),
            playbook=playbook.name,
            inventory=str(inventory.resolve()),
            limit=limit,
            extravars=dict(extra_vars or {}),
            envvars={**ENVIRONMENT, **_configuration(playbook.parent)},
            suppress_env_files=True,
            fact_cache_type=OURS,
            quiet=True,
            event_handler=events.put,  # returns None: no event is kept on disk
        )
        events.put(None)
        listener.join()
        if runner.status == "canceled":
            raise KeyboardInterrupt
        return PlaybookResult(
            runner.status,
            _summaries(stats, reasons),
            "" if stats else _output(runner),
        )


@contextlib.contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Put back the handlers that ansible-runner replaces for good."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _output(runner: Any) -> str:
    with contextlib.closing(runner.stdout) as stdout:
        return str(stdout.read())


def _configuration(folder: Path) -> dict[str, str]:
    """Name the ansible.cfg beside a playbook or above it: Ansible itself looks in the folder only."""
    files = (parent / "ansible.cfg" for parent in (folder.resolve(), *folder.resolve().parents))
    return next(({"ANSIBLE_CONFIG": str(file)} for file in files if file.exists()), {})


def _listen(
    events: queue.SimpleQueue[Mapping[str, Any] | None],
    reasons: dict[str, str],
    stats: dict[str, Mapping[str, int]],
    tell: Callable[[Mapping[str, Any]], None],
) -> None:
    while (event := events.get()) is not None:
        data = event.get("event_data", {})
        if event.get("event") in {"runner_on_failed", "runner_on_unreachable"} and not data.get(
            "ignore_errors"
        ):
            result = data.get("res") or {}
            said = str(result.get("msg") or result.get("stderr") or "no reason given").strip()
            reasons[str(data.get("host"))] = f"{data.get('task', 'a task')}: {said}"
        if event.get("event") == "playbook_on_stats":
            stats.update({key: value for key, value in data.items() if isinstance(value, Mapping)})
        tell(event)


def _summaries(stats: Mapping[str, Mapping[str, int]], reasons: Mapping[str, str]) -> dict[str, HostSummary]:
    hosts = sorted({host for counts in stats.values() for host in counts})
    summaries = {}
    for host in hosts:
        failed, dark = stats.get("failures", {}).get(host, 0), bool(stats.get("dark", {}).get(host, 0))
        summaries[host] = HostSummary(
            ok=stats.get("ok", {}).get(host, 0),
            changed=stats.get("changed", {}).get(host, 0),
            failed=failed,
            unreachable=dark,
            reason=reasons.get(host, "") if failed or dark else "",
        )
    return summaries


def _placed_cause(text: str) -> str:
    """Return the first cause that Ansible gives with a line: `file:line:column: cause`."""
    found = PLACED_CAUSE.search(text)
    return f"{found['place']}: {found['cause']}" if found else ""


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if "ERROR" in line or "rror" in line:
            return line
    return lines[0] if lines else ""
