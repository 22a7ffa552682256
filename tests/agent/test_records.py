from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import records

REQUEST: dict[str, Any] = {
    "schema": 1,
    "run_id": "20261123-051233-quick",
    "trial_id": "lab-2core.b01.004",
    "attempt": 1,
    "prefix": "/home/bench/.fcgi-sweep",
    "work_dir": "/home/bench/.fcgi-sweep/run/0123abcd",
    "lighttpd": "/home/bench/.fcgi-sweep/lighttpd/sbin/lighttpd",
    "lighttpd_conf": "server.port = 8080\n",
    "address": "127.0.0.1",
    "port": 8080,
    "url_path": "/hello",
    "expected_bytes": 1024,
    "expected_sha256": "51a2",
    "handler": "threaded",
    "processes": 2,
    "promise": {"peak_in_process": None, "multiplexes": False, "shares_socket": False, "is_ceiling": False},
    "load": {
        "tool": "ab",
        "path": "/usr/bin/ab",
        "concurrency": 32,
        "warmup_s": 2,
        "measure_s": 5.0,
        "keepalive": False,
        "request_bytes": 0,
    },
    "server_cpus": [0, 1],
    "load_cpus": None,
    "load_from": None,
    "wire": None,
    "startup_cost_s": None,
    "ready_timeout_s": 10.0,
    "deadline_s": 60.0,
}


def test_a_request_survives_the_journey() -> None:
    request = records.TrialRequest.from_json(REQUEST)
    assert request.server_cpus == (0, 1)
    assert request.load.warmup_s == 2.0
    assert json.loads(json.dumps(request.to_json())) == REQUEST


def test_a_request_on_the_wire_survives_the_journey() -> None:
    wire = {
        "command": ["/v/bin/python", "-m", "fcgi_handlers", "multiplexed", "hello"],
        "environment": {"PYTHONPATH": "/h"},
        "backlog": 1024,
        "connections": 2,
        "in_flight": 4,
        "keep_conn": True,
    }
    request = records.TrialRequest.from_json({**REQUEST, "wire": wire})
    assert request.wire is not None
    assert request.wire.command[-2:] == ("multiplexed", "hello")
    assert json.loads(json.dumps(request.to_json()))["wire"] == wire


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("prots",), 1, "TrialRequest: unknown key 'prots'"),
        (("load", "tols"), 1, "TrialRequest.load: unknown key 'tols'"),
        (("port",), "8080", "TrialRequest.port: expected int, got '8080'"),
        (("port",), True, "TrialRequest.port: expected int, got True"),
        (("load", "concurrency"), 1.5, "TrialRequest.load.concurrency: expected int, got 1.5"),
        (("server_cpus",), [0, "a"], "TrialRequest.server_cpus[1]: expected int, got 'a'"),
        (("load",), [], "TrialRequest.load: expected an object, got []"),
        (("schema",), 2, "TrialRequest.schema: this side speaks 1, got 2"),
    ],
)
def test_a_wrong_request_is_refused_with_its_place(path: tuple[str, ...], value: object, said: str) -> None:
    document = json.loads(json.dumps(REQUEST))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(records.RecordError) as caught:
        records.TrialRequest.from_json(document)
    assert str(caught.value) == said


def test_a_missing_key_is_named() -> None:
    document = {key: value for key, value in REQUEST.items() if key != "port"}
    with pytest.raises(records.RecordError, match="TrialRequest: key 'port' is missing"):
        records.TrialRequest.from_json(document)


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(records.RecordError, match="expected one of started, result, failure, cleaned"):
        records.event_from_json({"event": "finished"})
    with pytest.raises(records.RecordError, match="expected one of"):
        records.event_from_json(["result"])


numbers = st.floats(allow_nan=False, allow_infinity=False)
st.register_type_strategy(float, numbers)
gates = st.builds(
    records.Gate,
    name=st.text(),
    passed=st.booleans(),
    value=st.none() | numbers,
    limit=st.none() | numbers,
    unit=st.text(),
    detail=st.text(),
)
failures = st.builds(
    records.Failure,
    trial_id=st.text(),
    attempt=st.integers(1, 9),
    kind=st.sampled_from(records.KINDS),
    reason=st.text(),
    timings_s=st.builds(records.Timings, total=numbers),
    orphans=st.lists(st.builds(records.Orphan, pid=st.integers(1), cmd=st.text())).map(tuple),
    raw=st.dictionaries(st.text(), st.text()),
    schema=st.just(1),
)
results = st.builds(
    records.Result,
    trial_id=st.text(),
    attempt=st.integers(1, 9),
    goodput_rps=numbers,
    requests=st.from_type(records.Requests),
    latency_ms=st.builds(records.LatencyMs, mean=st.none() | numbers, p99=st.none() | numbers),
    counters=st.builds(
        records.Counters,
        lighttpd=st.builds(records.GroupCounters, cpu_user_s=st.none() | numbers),
        handlers=st.builds(records.GroupCounters, ctx_voluntary=st.none() | st.integers(0)),
        load=st.builds(records.GroupCounters),
        system=st.from_type(records.SystemCounters),
    ),
    handlers=st.lists(
        st.builds(
            records.HandlerCount, pid=st.integers(1), requests=st.integers(0), peak_in_process=st.integers(0)
        )
    ).map(tuple),
    windows=st.lists(st.builds(records.Window, t_s=numbers, requests=st.integers(0))).map(tuple),
    gates=st.lists(gates).map(tuple),
    timings_s=st.builds(records.Timings, ready=numbers),
    orphans=st.just(()),
    raw=st.dictionaries(st.text(), st.text()),
    schema=st.just(1),
)


@given(failures | results)
def test_events_survive_the_journey(event: records.Failure | records.Result) -> None:
    assert records.event_from_json(json.loads(json.dumps(event.to_json()))) == event
