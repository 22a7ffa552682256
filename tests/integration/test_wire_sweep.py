"""A sweep on the wire over ssh: the command line, the agent of a lab host, its real handlers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from weather import failed_gates

from lab import Lab

ROOT = Path(__file__).parents[2]
# What these gates say depends on what else the machine does while the tests run.
EXPERIMENT = """\
name: wire
question: What is re-use worth, what is interleaving?
hosts: {host}
factors:
  handler: [threaded, multiplexed]
  processes: 1
  connections: [1, 4]
  in_flight: [1, 4]
  keep_conn: [true, false]
load: {{tool: fcgi, concurrency: 4, warmup_s: 0.2, measure_s: 1}}
design: {{blocks: 1, seed: 3, attempts: 1}}
"""

pytestmark = [pytest.mark.integration, pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Place:
    """A lab host, its inventory, and where results go."""

    host: str
    inventory: Path
    results: Path

    def sweep(self, *arguments: str, results: bool = True) -> subprocess.CompletedProcess[str]:
        where = ["--inventory", str(self.inventory), *(["--results", str(self.results)] if results else [])]
        return subprocess.run(
            [sys.executable, "-m", "controller", *arguments, *where],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    def records(self) -> list[dict[str, Any]]:
        (journal,) = self.results.glob("*/journal.jsonl")
        return [json.loads(line) for line in journal.read_text().splitlines()]


@pytest.fixture
def place(provisioned_lab: Lab, lab_inventory: Path, tmp_path: Path) -> Place:
    host = next(name for name in provisioned_lab.hosts if name.endswith("2core"))
    return Place(host, lab_inventory, tmp_path / "results")


def test_every_regime_is_measured_over_ssh_with_the_evidence_of_both_ends(place: Place) -> None:
    experiment = place.results.with_name("wire.yml")
    experiment.write_text(EXPERIMENT.format(host=place.host))
    done = place.sweep("run", str(experiment), "--patience", "5")
    assert "Traceback" not in done.stderr, done.stderr
    assert f"{place.host}: 1 cells dropped: in_flight above 1: threaded does not multiplex" in done.stderr
    attempts = place.records()
    regimes = [("threaded", 4, 1, False), ("threaded", 4, 1, True)]
    regimes += [("multiplexed", 4, 1, False), ("multiplexed", 4, 1, True), ("multiplexed", 1, 4, True)]
    found = {}
    for attempt in attempts:
        cell, result = attempt["cell"], attempt["result"]
        assert result is not None, attempt["failure"]
        assert failed_gates(result) == {}
        assert (cell["tool"], cell["concurrency"], cell["keepalive"]) == ("fcgi", 4, cell["keep_conn"])
        if attempt["role"] == "cell":
            found[cell["handler"], cell["connections"], cell["in_flight"], cell["keep_conn"]] = result
    assert sorted(found) == sorted(regimes)
    assert {attempt["role"] for attempt in attempts} == {"cell", "sentinel", "duplicate"}
    for (_, connections, in_flight, kept), result in found.items():
        wire, (served,) = result["wire"], result["handlers"]
        assert wire["faults"] == {}
        assert served["connections"] == wire["connections_opened"]
        assert (wire["connections_opened"] == connections) is kept
        assert served["highest_id"] == wire["highest_id"] == in_flight
    raw = next(place.results.glob("*")) / attempts[0]["raw"]
    assert "load.txt" in {path.name for path in raw.iterdir()}
    assert "lighttpd.conf" not in {path.name for path in raw.iterdir()}


def test_a_responder_on_the_host_is_probed_over_ssh(place: Place) -> None:
    done = place.sweep("probe", "/run/nothing.sock", "--host", place.host, results=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("/run/nothing.sock\n  reachable: FAILED (No such file or directory; ")
