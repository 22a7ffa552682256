"""Trials without a web server: real handlers on their sockets, driven by the agent's own client."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from weather import failed_gates

from agent.records import Failure, Result
from fcgi_handlers import registry

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).resolve().parents[2]
LYING_HANDLER = Path(__file__).parent / "data" / "lying_handler.py"
PUBLISHED = """
import sys
from fcgi_handlers import counters, registry
from fcgi_handlers.flup_server import ThreadedServer
server = ThreadedServer(registry.load_workload("hello"), counters.shared(sys.argv[1]), multiplexed=False)
"""


def wire_request(
    host: Any,
    handler: str,
    regime: tuple[int, int, bool],
    processes: int = 1,
    program: list[str] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """What the controller would ask for `connections`, `in_flight`, `keep_conn`."""
    connections, in_flight, keep_conn = regime
    model = registry.load_model(handler)
    multiplexes = program is not None or model.multiplexes
    load = {"tool": "fcgi", "concurrency": connections * in_flight, "keepalive": keep_conn, "warmup_s": 0.5}
    request: dict[str, Any] = host.request(
        handler,
        processes,
        load={**load, **changes.pop("load", {})},
        load_path=str(host.archive),
        lighttpd="",
        lighttpd_conf="",
        promise={
            "peak_in_process": model.peak_in_process,
            "multiplexes": multiplexes,
            "shares_socket": model.shares_socket,
            "is_ceiling": model.is_ceiling,
        },
    )
    stats = f"{request['work_dir']}/stats"
    request["wire"] = {
        "command": [host.python, *(program or ["-m", "fcgi_handlers", handler, "hello"])],
        "environment": {
            "PYTHONPATH": str(PROJECT),
            "FCGI_SWEEP_STATS": stats,
            "FCGI_SWEEP_CHILDREN": str(processes),
        },
        "backlog": 1024,
        "connections": connections,
        "in_flight": in_flight,
        "keep_conn": keep_conn,
    }
    if program is not None:
        request["wire"]["command"].append(stats)
    return {**request, **changes}


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("handler", "regime"),
    [
        ("threaded", (4, 1, False)),
        ("threaded", (4, 1, True)),
        ("multiplexed", (4, 1, False)),
        ("multiplexed", (4, 1, True)),
        ("multiplexed", (2, 2, True)),
        ("asyncio", (2, 4, True)),
    ],
)
def test_each_regime_is_measured_and_proven_by_both_ends(
    host: Any, handler: str, regime: tuple[int, int, bool], processes: int
) -> None:
    connections, in_flight, keep_conn = regime
    result = host.trial(wire_request(host, handler, regime, processes))
    assert failed_gates(result) == {}
    assert {"connections", "multiplexing"} <= {gate.name for gate in result.gates}
    wire, served = result.wire, result.handlers
    assert result.requests.ok > 50
    assert wire["faults"] == {}
    assert wire["highest_id"] == wire["peak_ids_per_connection"] == in_flight
    assert wire["peak_in_flight"] == connections * in_flight
    assert len(wire["requests_per_address"]) == len(served) == processes
    opened = sum(count.connections for count in served)
    assert opened == wire["connections_opened"]
    assert (opened == connections) is keep_conn
    assert {count.highest_id for count in served} == {in_flight}
    assert all(1 <= count.peak_ids_per_connection <= in_flight for count in served)
    assert result.counters.lighttpd.processes == 0
    assert result.latency_ms.p99 is not None
    host.assert_clean()


def test_a_handler_that_takes_one_connection_is_measured_on_a_kept_one(host: Any) -> None:
    result = host.trial(wire_request(host, "serial", (2, 1, True), 2))
    assert failed_gates(result) == {}
    assert [count.connections for count in result.handlers] == [1, 1]


@pytest.mark.parametrize("kept", [False, True])
def test_processes_that_share_a_socket_are_measured_on_that(host: Any, kept: bool) -> None:
    result = host.trial(wire_request(host, "prefork", (2, 1, kept), 2))
    assert failed_gates(result) == {}
    assert len(result.wire["requests_per_address"]) == 1
    assert len(result.handlers) == 2
    assert sum(count.connections for count in result.handlers) == result.wire["connections_opened"]


def test_one_interleaved_connection_reaches_as_many_requests_in_the_process(host: Any) -> None:
    result = host.trial(wire_request(host, "asyncio", (1, 8, True)))
    assert failed_gates(result) == {}
    (served,) = result.handlers
    assert (served.connections, served.highest_id) == (1, 8)
    assert result.wire["connections_opened"] == 1


def test_the_servers_evidence_is_there_behind_lighttpd_too(host: Any) -> None:
    result = host.trial(host.request("threaded"))
    assert isinstance(result, Result), result
    assert result.wire is None
    for count in result.handlers:
        assert count.connections == count.requests
        assert (count.highest_id, count.peak_ids_per_connection) == (1, 1)


@pytest.mark.parametrize("lie", ["refuses", "swaps"])
def test_a_handler_that_lies_about_multiplexing_fails_the_gate(host: Any, lie: str) -> None:
    result = host.trial(wire_request(host, "multiplexed", (2, 4, True), program=[str(LYING_HANDLER), lie]))
    failed = failed_gates(result)
    assert "multiplexing" in failed and "refused or mixed up" in failed["multiplexing"]
    assert "responses" in failed
    assert not result.valid
    host.assert_clean()


def test_a_handler_that_says_nothing_and_breaks_its_promise_is_measured_and_fails(
    host: Any, tmp_path: Path
) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text(PUBLISHED + "server.run()\n")
    result = host.trial(wire_request(host, "multiplexed", (1, 4, True), program=[str(silent)]))
    assert "multiplexing" in failed_gates(result)
    assert result.wire["faults"]["cant_mpx_conn"] > 0


@pytest.mark.parametrize("says", ["values", "nothing"])
def test_a_handler_that_does_not_multiplex_is_never_asked_to(host: Any, tmp_path: Path, says: str) -> None:
    handler = tmp_path / "handler.py"
    capability = {b"FCGI_MPXS_CONNS": 0} if says == "values" else {}
    handler.write_text(PUBLISHED + f"server.capability = {capability!r}\nserver.run()\n")
    promise = {"peak_in_process": None, "multiplexes": False}
    request = wire_request(host, "threaded", (1, 4, True), program=[str(handler)], promise=promise)
    failure = host.trial(request)
    assert isinstance(failure, Failure), failure
    assert failure.kind == "not_ready"
    reason = "FCGI_MPXS_CONNS=0" if says == "values" else "the responder does not say whether it multiplexes"
    assert f"threaded: {reason}" in failure.reason
    assert "leave the cell out" in failure.reason
    host.assert_clean()


def test_a_handler_killed_during_the_measurement_invalidates_it(host: Any) -> None:
    request = wire_request(host, "threaded", (4, 1, True), 2, load={"warmup_s": 0.0, "measure_s": 3.0})
    agent = host.start(request)
    host.await_load()
    os.kill(min(host.stats()), signal.SIGKILL)
    result = agent.events()[-1]
    failed = failed_gates(result)
    assert "ended: " in failed["handlers_alive"]
    assert {"responses", "connections"} <= set(failed)
    first = ("closed_early: ", "half_record: ", "Connection refused")
    assert any(fault in failed["responses"] for fault in first), failed
    assert result.wire["faults"]["refused"] > 0
    host.assert_clean()


def test_a_handler_that_dies_at_its_start_is_quoted(host: Any) -> None:
    request = wire_request(host, "threaded", (1, 1, False))
    request["wire"]["command"][-1] = "nonsense"
    failure = host.trial({**request, "ready_timeout_s": 3.0})
    assert isinstance(failure, Failure), failure
    assert (failure.kind, "nonsense" in failure.reason) == ("not_ready", True)
    assert "a handler process ended at once" in failure.reason
    host.assert_clean()


def test_a_handler_that_ignores_its_end_is_killed_and_named(host: Any, tmp_path: Path) -> None:
    stubborn = tmp_path / "stubborn.py"
    stubborn.write_text(
        PUBLISHED + "import threading\nserver._finish = threading.Event().wait\nserver.run()\n"
    )
    result = host.trial(wire_request(host, "threaded", (1, 1, False), program=[str(stubborn)]))
    assert "stubborn.py" in failed_gates(result)["leftovers"]
    host.assert_clean()


def test_the_agent_goes_when_its_controller_goes(host: Any) -> None:
    agent = host.start(
        wire_request(host, "threaded", (2, 1, False), load={"warmup_s": 0.0, "measure_s": 30.0})
    )
    host.await_load()
    agent.hang_up()
    failure = agent.events(10)[-1]
    assert failure.kind == "interrupted"
    host.assert_clean()


def test_an_impossible_load_is_refused_before_anything_starts(host: Any) -> None:
    failure = host.trial(wire_request(host, "threaded", (1, 1, False), 2))
    assert isinstance(failure, Failure), failure
    assert "some processes would idle" in failure.reason
    assert failure.kind == "internal"
