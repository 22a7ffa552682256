"""What a cell becomes when its trial is asked of the agent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.records import TrialRequest
from controller.cells import Cell, Role, Trial
from controller.experiment import Load
from controller.host_facts import HostFacts
from controller.inventory import read_hosts
from controller.run_directory import PROJECT
from controller.trial import Site, trial_request

CELL = Cell("threaded", 8, 16, False, 2, "shared", "hello", "ab", "1.4.79", "system")
LOAD = Load(concurrency=16, warmup_s=2.0, measure_s=20.0)
DEAR = {"name": "startup(3000)", "url_path": "/startup(3000)", "bytes": 1024, "sha256": "b" * 64}


@pytest.fixture
def site(fleet: Any, one_host: Any) -> Site:
    facts = one_host.plan["facts"]
    facts["workloads"] += [
        {**DEAR, "request_bytes": 0, "startup_s": 3.0},
        {**DEAR, "name": "upload(9)", "url_path": "/upload(9)", "request_bytes": 9, "startup_s": 0.0},
    ]
    facts["handlers"].append(
        {"name": "prefork", "peak_in_process": 1, "multiplexes": False, "shares_socket": True}
    )
    (host,) = read_hosts(fleet.inventory, "web1", PROJECT)
    return Site(host, HostFacts(facts))


def asked(site: Site, starts: bool = False, load: Load = LOAD, **levels: Any) -> TrialRequest:
    trial = Trial("web1.b01.001", "web1", "web1", 1, 1, Role.CELL, replace(CELL, **levels))
    return trial_request("run", trial, 1, site, load, starts=starts)


def test_the_rate_is_asked_for_without_what_a_start_costs(site: Site) -> None:
    request = asked(site, workload="startup(3000)")
    assert request.startup_cost_s is None
    assert request.load.warmup_s == 2.0


def test_a_start_is_asked_for_with_its_cost_and_without_a_warm_up(site: Site) -> None:
    request = asked(site, starts=True, workload="startup(3000)")
    assert request.startup_cost_s == 3.0
    assert (request.load.warmup_s, request.load.measure_s) == (0.0, 20.0)
    assert asked(site, starts=True).startup_cost_s == 0.0
    assert asked(site, starts=True, handler="static", processes=0).startup_cost_s is None


def test_processes_that_are_dear_to_start_get_the_time_for_it(site: Site) -> None:
    usual, dear = asked(site), asked(site, workload="startup(3000)")
    # 8 processes of 3 s on 2 cores
    assert dear.ready_timeout_s >= usual.ready_timeout_s + 12
    assert dear.deadline_s - usual.deadline_s == dear.ready_timeout_s - usual.ready_timeout_s


def test_a_measurement_is_asked_for_and_waited_for_in_whole_seconds(site: Site) -> None:
    usual, odd = asked(site), asked(site, load=LOAD.model_copy(update={"measure_s": 20.4}))
    assert odd.load.measure_s == 21.0
    assert odd.deadline_s == usual.deadline_s + 1


def test_requests_with_a_body_say_how_long_it_is(site: Site) -> None:
    assert asked(site, workload="upload(9)").load.request_bytes == 9
    assert asked(site).load.request_bytes == 0


def test_lighttpd_starts_one_process_where_all_share_a_socket(site: Site) -> None:
    shared, own = asked(site, handler="prefork", processes=4), asked(site, processes=4)
    assert (shared.processes, own.processes) == (4, 4)
    assert shared.promise.shares_socket and not own.promise.shares_socket
    assert '"max-procs" => 1,' in shared.lighttpd_conf
    assert '"max-procs" => 4,' in own.lighttpd_conf
    assert '"FCGI_SWEEP_CHILDREN" => "4"' in shared.lighttpd_conf
