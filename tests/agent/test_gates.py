"""Each gate passes on a good trial and fails, alone, on the evidence that it is there for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent import gates
from agent.load.report import LoadReport
from agent.records import (
    ClockOffset,
    Counters,
    GroupCounters,
    HandlerCount,
    LatencyMs,
    LoadHost,
    LoadSpec,
    Promise,
    SystemCounters,
    Timings,
    TrialRequest,
    Window,
)

CONCURRENCY = 32
REQUEST = TrialRequest(
    run_id="r",
    trial_id="t",
    prefix="/p",
    work_dir="/p/run/0",
    lighttpd="/p/lighttpd",
    lighttpd_conf="",
    address="127.0.0.1",
    port=8080,
    url_path="/hello",
    expected_bytes=1024,
    expected_sha256="",
    handler="threaded",
    processes=2,
    promise=Promise(),
    load=LoadSpec("ab", "/usr/bin/ab", CONCURRENCY, 1.0, 5.0, keepalive=False),
)
LOAD = LoadReport(
    measured_s=5.001,
    complete=10000,
    failed=0,
    non_2xx=0,
    write_errors=0,
    length_failures=0,
    mean_ms=(15.5, 16.5),
    latency_ms=LatencyMs(),
    keepalive=0,
    document_bytes=1024,
    body_bytes=10000 * 1024,
)
SYSTEM = SystemCounters(
    window_s=5.0,
    steal_share=0.0,
    idle_share=0.1,
    listen_drops=0,
    listen_overflows=0,
    passive_opens=10032,
    time_wait=0,
    ctx_total=1,
    load1=1.0,
)
COUNTERS = Counters(
    lighttpd=GroupCounters(),
    handlers=GroupCounters(threads=12, descriptors=14, processes=2),
    load=GroupCounters(cpu_user_s=0.5, cpu_sys_s=1.0),
    system=SYSTEM,
)
GOOD = gates.Evidence(
    request=REQUEST,
    load=LOAD,
    asked_s=5,
    counters=COUNTERS,
    handlers=(HandlerCount(10, 5010, 7), HandlerCount(11, 5012, 6)),
    windows=tuple(Window(0.25 * i, 500) for i in range(1, 21)),
    pids_before=frozenset({10, 11}),
    pids_after=frozenset({10, 11}),
    header_bytes=150,
    complaints=(),
    leftovers=(),
)


def load(**changes: Any) -> gates.Evidence:
    return replace(GOOD, load=replace(LOAD, **changes))


def system(**changes: Any) -> gates.Evidence:
    return replace(GOOD, counters=replace(COUNTERS, system=replace(SYSTEM, **changes)))


def request(evidence: gates.Evidence = GOOD, **changes: Any) -> gates.Evidence:
    return replace(evidence, request=replace(evidence.request, **changes))


def keepalive(evidence: gates.Evidence) -> gates.Evidence:
    return request(evidence, load=replace(REQUEST.load, keepalive=True))


def failed(evidence: gates.Evidence) -> set[str]:
    return {gate.name for gate in gates.judge(evidence) if not gate.passed}


def rates(*requests: int) -> tuple[Window, ...]:
    return tuple(Window(0.25 * (i + 1), each) for i, each in enumerate(requests))


def test_a_good_trial_passes_every_gate() -> None:
    verdicts = gates.judge(GOOD)
    assert failed(GOOD) == set()
    assert [gate.name for gate in verdicts] == [
        "responses",
        "body_length",
        "completed",
        "keepalive",
        "handlers_alive",
        "growth",
        "peak_concurrency",
        "littles_law",
        "server_count",
        "load_cpu",
        "steal",
        "clock",
        "listen_drops",
        "error_log",
        "leftovers",
        "steady",
    ]
    assert all(gate.detail and gate.unit for gate in verdicts)


@pytest.mark.parametrize(
    ("evidence", "names"),
    [
        (load(non_2xx=1), {"responses"}),
        (load(failed=3), {"responses"}),
        (load(write_errors=1), {"responses"}),
        (load(failed=2, length_failures=2), {"body_length"}),
        (load(document_bytes=341), {"body_length"}),
        (load(body_bytes=10000 * 1000), {"body_length"}),
        (load(document_bytes=None, body_bytes=None, read_bytes=10000 * 1024), {"body_length"}),
        (load(measured_s=4.7, mean_ms=(14.8, 15.2)), {"completed"}),
        (load(keepalive=300), {"keepalive"}),
        (keepalive(load(keepalive=9000)), {"keepalive"}),
        (keepalive(load(keepalive=None)), {"keepalive"}),
        (replace(GOOD, pids_after=frozenset({10})), {"handlers_alive"}),
        (replace(GOOD, pids_after=frozenset({10, 12})), {"handlers_alive"}),
        (request(processes=3), {"handlers_alive"}),
        (request(promise=Promise(peak_in_process=1)), {"peak_concurrency"}),
        (load(mean_ms=(10.0, 11.0)), {"littles_law"}),
        (replace(GOOD, handlers=(HandlerCount(10, 9000, 3),)), {"server_count"}),
        (replace(GOOD, handlers=(HandlerCount(10, 11000, 3),)), {"server_count"}),
        (system(steal_share=0.011), {"steal"}),
        (system(clock_step_s=0.03), {"clock"}),
        (system(clock_step_s=-3600.0), {"clock"}),
        (system(listen_drops=1), {"listen_drops"}),
        (replace(GOOD, complaints=("backend is overloaded",)), {"error_log"}),
        (replace(GOOD, leftovers=("4711 python",)), {"leftovers"}),
        (replace(GOOD, windows=rates(*range(400, 600, 10))), {"steady"}),
        (replace(GOOD, counters=replace(COUNTERS, load=GroupCounters(2.0, 2.5))), {"load_cpu"}),
        (
            replace(
                GOOD,
                counters=replace(COUNTERS, handlers=GroupCounters(threads=417, descriptors=418, processes=1)),
            ),
            {"growth"},
        ),
    ],
)
def test_a_gate_fails_alone_on_its_evidence(evidence: gates.Evidence, names: set[str]) -> None:
    assert failed(evidence) == names


def test_a_ceiling_need_not_leave_the_load_generator_time_to_spare() -> None:
    hurried = replace(GOOD, counters=replace(COUNTERS, load=GroupCounters(2.0, 2.5)))
    assert failed(hurried) == {"load_cpu"}
    ceiling = replace(hurried.request, promise=Promise(is_ceiling=True))
    assert not {"load_cpu", "littles_law"} & {
        gate.name for gate in gates.judge(replace(hurried, request=ceiling))
    }


def test_a_load_generator_that_counts_its_own_time_is_not_charged_with_its_start() -> None:
    hurried = replace(GOOD, counters=replace(COUNTERS, load=GroupCounters(2.0, 2.5)))
    assert failed(replace(hurried, load=replace(LOAD, cpu_s=3.0))) == set()
    assert failed(load(cpu_s=4.5)) == {"load_cpu"}


def test_keepalive_is_told_by_the_kernel_where_the_tool_is_silent() -> None:
    evidence = keepalive(load(keepalive=None))
    assert failed(evidence) == {"keepalive"}
    kept = replace(evidence, counters=replace(COUNTERS, system=replace(SYSTEM, passive_opens=40)))
    assert failed(kept) == set()


def test_nothing_complete_is_invalid_and_divides_by_nothing() -> None:
    evidence = load(complete=0, body_bytes=0, mean_ms=None, keepalive=0)
    assert {"responses", "completed", "server_count"} <= failed(replace(evidence, windows=rates(0, 0, 0, 0)))


def test_a_static_trial_has_no_handler_gates() -> None:
    static = replace(
        request(processes=0), handlers=(), windows=(), pids_before=frozenset(), pids_after=frozenset()
    )
    names = {gate.name for gate in gates.judge(static)}
    assert names.isdisjoint(
        {"handlers_alive", "growth", "peak_concurrency", "littles_law", "server_count", "load_cpu", "steady"}
    )
    assert failed(static) == set()


@pytest.mark.parametrize(
    ("changes", "ok"),
    [
        ({}, 10000),
        ({"non_2xx": 9000, "failed": 9000, "length_failures": 9000}, 1000),
        ({"document_bytes": 341, "non_2xx": 10000}, 0),
        ({"failed": 15000}, 0),
    ],
)
def test_goodput_counts_what_is_surely_right(changes: dict[str, Any], ok: int) -> None:
    assert gates.correct_responses(replace(LOAD, **changes), 1024) == ok


def test_steal_counts_on_the_host_that_makes_the_load_too_and_its_listen_queues_do_not() -> None:
    def loaded_from(**changes: Any) -> gates.Evidence:
        other = LoadHost("gen", replace(SYSTEM, **changes), Timings(), ClockOffset(0.0, 0.0))
        return replace(GOOD, load_host=other)

    assert failed(loaded_from(steal_share=0.009)) == set()
    assert failed(loaded_from(steal_share=0.02)) == {"steal"}
    assert "2.00% on gen, which made the load" in gates.steal(loaded_from(steal_share=0.02)).detail
    assert failed(loaded_from(listen_drops=9)) == set()


def test_the_clock_that_counts_is_that_of_the_host_that_makes_the_load() -> None:
    stepped = replace(SYSTEM, clock_step_s=0.1)
    other = LoadHost("gen", stepped, Timings(), ClockOffset(0.0, 0.0))
    assert failed(replace(GOOD, load_host=other)) == {"clock"}
    assert (
        "of gen, which made the load, jumped by +0.100 s"
        in gates.clock(replace(GOOD, load_host=other)).detail
    )
    steady = replace(other, system=SYSTEM)
    assert failed(replace(system(clock_step_s=0.1), load_host=steady)) == set()
