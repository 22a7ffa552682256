"""Gates see through what load generators and the kernel really said; `data/` holds the captured outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import gates, procfs, snapshot
from agent.load import report
from agent.load.report import LoadReport, Output
from agent.records import (
    Counters,
    GroupCounters,
    HandlerCount,
    LoadSpec,
    Promise,
    SystemCounters,
    TrialRequest,
)

DATA = Path(__file__).parent / "data"
CONCURRENCY = 8


def parsed(name: str) -> LoadReport:
    table = DATA / f"{name}.csv"
    output = Output(
        text=(DATA / f"{name}.txt").read_text(), csv=table.read_text() if table.exists() else "", status=0
    )
    return report.tool(name.partition("_")[0]).parse(output)


def evidence(name: str, asked_s: int, keepalive: bool, system: SystemCounters) -> gates.Evidence:
    """What a trial would have known that ended with this output, all else being well."""
    load = parsed(name)
    return gates.Evidence(
        request=TrialRequest(
            run_id="r", trial_id="t", prefix="/p", work_dir="/p/run/0", lighttpd="/l", lighttpd_conf="",
            address="127.0.0.1", port=8080, url_path="/hello", expected_bytes=1024, expected_sha256="",
            handler="threaded", processes=1, promise=Promise(),
            load=LoadSpec(name.partition("_")[0], "/t", CONCURRENCY, 0.0, float(asked_s), keepalive),
        ),
        load=load,
        asked_s=asked_s,
        counters=Counters(
            lighttpd=GroupCounters(), handlers=GroupCounters(), load=GroupCounters(0.1, 0.1), system=system
        ),
        handlers=(HandlerCount(10, load.complete, CONCURRENCY),),
        windows=(),
        pids_before=frozenset({10}),
        pids_after=frozenset({10}),
        header_bytes=_header_bytes(load),
        complaints=(),
        leftovers=(),
    )  # fmt: skip


def _header_bytes(load: LoadReport) -> int:
    """Of the servers that the outputs were captured from, which nothing but the outputs remembers."""
    return 0 if load.read_bytes is None or not load.complete else load.read_bytes // load.complete - 1024


def system(connections: int, **changes: float) -> SystemCounters:
    return SystemCounters(
        window_s=1.0, steal_share=changes.get("steal_share", 0.0), idle_share=0.0, listen_drops=0,
        listen_overflows=0, passive_opens=connections, time_wait=0, ctx_total=1, load1=1.0,
    )  # fmt: skip


def failed(name: str, asked_s: int, keepalive: bool = False) -> set[str]:
    connections = CONCURRENCY if keepalive else parsed(name).complete
    found = evidence(name, asked_s, keepalive, system(connections))
    return {gate.name for gate in gates.judge(found) if not gate.passed}


@pytest.mark.parametrize(
    ("name", "asked_s", "keepalive"),
    [
        ("ab_normal", 2, False),
        ("ab_keepalive", 2, True),
        ("wrk_normal", 2, True),
        ("wrk_no_keepalive", 2, False),
        ("h2load_normal", 2, True),
    ],
)
def test_a_good_run_of_each_tool_passes(name: str, asked_s: int, keepalive: bool) -> None:
    assert failed(name, asked_s, keepalive) == set()


@pytest.mark.parametrize(
    ("name", "asked_s", "keepalive", "gate"),
    [
        ("ab_non_2xx", 1, False, "responses"),
        ("wrk_non_2xx", 1, True, "responses"),
        ("h2load_non_2xx", 1, True, "responses"),
        ("ab_refused", 1, False, "responses"),
        ("wrk_timeouts", 3, True, "responses"),
        ("h2load_refused", 1, True, "responses"),
        ("h2load_keepalive_off", 1, True, "responses"),
        ("ab_wrong_length", 1, False, "body_length"),
        ("ab_non_2xx", 1, False, "body_length"),
        ("ab_short", 1, False, "completed"),
        ("wrk_short", 2, True, "completed"),
        ("h2load_short", 1, True, "completed"),
        ("ab_keepalive_off", 1, True, "keepalive"),
        ("ab_keepalive", 2, False, "keepalive"),
        ("wrk_keepalive_off", 1, True, "responses"),
        ("ab_refused", 1, False, "littles_law"),
    ],
)
def test_an_ugly_run_fails_the_gate_that_is_there_for_it(
    name: str, asked_s: int, keepalive: bool, gate: str
) -> None:
    assert gate in failed(name, asked_s, keepalive)


def test_wrong_lengths_are_not_mistaken_for_other_errors() -> None:
    assert failed("ab_wrong_length", 1) == {"body_length"}


def test_time_that_the_hypervisor_took_is_in_the_kernels_own_words() -> None:
    before, after = (
        procfs.parse_cpu_time((DATA / f"stat_steal_{when}.txt").read_text(), [0, 1])
        for when in ("before", "after")
    )
    moments = (
        snapshot.SystemSnapshot(
            at_s=at_s,
            wall_s=at_s,
            cpu=cpu,
            cpu_host=cpu,
            listen_drops=0,
            listen_overflows=0,
            passive_opens=0,
            time_wait=0,
        )
        for at_s, cpu in ((0.0, before), (1.0, after))
    )
    measured = snapshot.system_between(*moments)
    assert measured.steal_share > gates.STEAL
    found = evidence("ab_normal", 2, False, measured)
    gate = gates.steal(found)
    assert not gate.passed
    assert f"the hypervisor took {measured.steal_share:.2%}" in gate.detail
