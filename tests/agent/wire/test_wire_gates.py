from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from agent.load import fcgi
from agent.load.report import LoadError, Order, Output
from agent.wire.gates import judge
from agent.wire.protocol import web_request
from agent.wire.results import Evidence, WireLoad, WireResult

LOAD = WireLoad(("/a",), web_request("/"), connections=2, in_flight=4, keep_conn=True, duration_s=2.0)
SEEN = Evidence(
    connections_opened=2,
    requests_per_connection_mean=1000,
    requests_per_connection_max=1000,
    highest_id=4,
    peak_ids_per_connection=4,
    peak_in_flight=8,
    interleaved_answers=10,
    out_of_order_answers=20,
    closed_by_responder=0,
    connect_retries=0,
    requests_per_address=(2000,),
)
RESULT = WireResult(
    measured_s=2.0,
    sent=2000,
    complete=1992,
    ok=1992,
    failed=0,
    drained=8,
    goodput_rps=996.0,
    body_bytes=1992,
    stderr_bytes=0,
    latency_ms={"mean": 8.0, "p50": 8.0, "p90": 8.0, "p95": 8.0, "p99": 8.0, "max": 9.0},
    windows=(996, 996),
    faults={},
    examples=(),
    gave_up=False,
    client_cpu_s=0.5,
    evidence=SEEN,
)


def seen(**changes: object) -> WireResult:
    return dataclasses.replace(RESULT, evidence=dataclasses.replace(SEEN, **changes))  # type: ignore[arg-type]


def failed(load: WireLoad, result: WireResult) -> set[str]:
    return {gate.name for gate in judge(load, result) if not gate.passed}


def test_a_sound_regime_passes_both_gates() -> None:
    assert failed(LOAD, RESULT) == set()
    assert [gate.name for gate in judge(LOAD, RESULT)] == ["connections", "multiplexing"]


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (
            dataclasses.replace(RESULT, failed=1, faults={"unanswered": 1}),
            set(),
        ),  # the common gates see to that
        (dataclasses.replace(RESULT, failed=1, faults={"cant_mpx_conn": 1}), {"multiplexing"}),
        (dataclasses.replace(RESULT, failed=1, faults={"wrong_id": 1}), {"multiplexing"}),
        (seen(connections_opened=3), {"connections"}),
        (seen(closed_by_responder=1), {"connections"}),
        (seen(peak_ids_per_connection=3), {"multiplexing"}),
        (seen(highest_id=5), {"multiplexing"}),
    ],
)
def test_a_regime_that_was_not_asked_for_fails_its_gate(result: WireResult, names: set[str]) -> None:
    assert failed(LOAD, result) == names


def test_fresh_connections_must_carry_one_request_each() -> None:
    load = dataclasses.replace(LOAD, connections=8, in_flight=1, keep_conn=False)
    fresh = seen(connections_opened=2000, highest_id=1, peak_ids_per_connection=1)
    assert failed(load, fresh) == set()
    reused = seen(connections_opened=1999, highest_id=1, peak_ids_per_connection=1)
    assert failed(load, reused) == {"connections"}


def test_the_result_travels_as_json() -> None:
    assert WireResult.from_json(json.loads(json.dumps(RESULT.to_json()))) == RESULT


def test_the_common_report_says_the_same() -> None:
    wrong = dataclasses.replace(RESULT, failed=6, faults={"bad_status": 3, "bad_length": 2, "bad_body": 1})
    text = "a warning\n" + json.dumps(wrong.to_json()) + "\n"
    report = fcgi.parse(Output(text=text, csv="", status=0))
    assert (report.measured_s, report.complete, report.failed, report.non_2xx) == (2.0, 1992, 6, 3)
    assert (report.length_failures, report.keepalive, report.body_bytes) == (3, 1998, 1992)
    assert report.mean_ms == (8.0, 8.0)
    assert report.latency_ms.p99 == 8.0


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (Output(text="wire-load: /x: no addresses", csv="", status=2), "status 2: wire-load: /x"),
        (Output(text='{"half": 1}', csv="", status=0), "cannot be understood"),
        (Output(text="", csv="", status=0), "cannot be understood"),
    ],
)
def test_a_client_that_did_not_finish_is_a_load_error(output: Output, words: str) -> None:
    with pytest.raises(LoadError, match=words):
        fcgi.parse(output)


def test_the_client_is_started_from_the_archive_with_the_load_in_a_file(tmp_path: Path) -> None:
    order = Order("/p/agent.pyz", f"fcgi:{tmp_path}/load.json", 8, 3, keepalive=True, csv=tmp_path / "csv")
    assert fcgi.command(order)[1:] == ["/p/agent.pyz", "wire-load", f"{tmp_path}/load.json", "3"]
    with pytest.raises(LoadError, match="choose ab, wrk or h2load"):
        fcgi.command(dataclasses.replace(order, url="http://127.0.0.1:8080/hello"))
