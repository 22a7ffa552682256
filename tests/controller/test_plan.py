from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cells import Cell, Role, Trial
from controller.experiment import Experiment
from controller.placement import CpuPool, share_cpus
from controller.plan import PlannedHost, plan_host
from controller.schedule import RandomStream, expected_duration_s, make_schedule, schedule_document


def experiment(
    blocks: int = 6, seed: int = 2007, sentinel: bool = True, load: object = None, **factors: object
) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "t",
            "question": "q",
            "factors": {"handler": ["threaded", "multiplexed"], "processes": "1..4", **factors},
            "load": load or {},
            "design": {"blocks": blocks, "seed": seed, "sentinel": sentinel},
        }
    )


def host(cores: int = 2, name: str = "h", machine: str = "m", pool: CpuPool | None = None) -> PlannedHost:
    return PlannedHost(
        name,
        machine,
        pool or CpuPool(tuple(range(cores))),
        {"default": "1.4.79", "1.4.79": "1.4.79"},
        {"default": "system", "system": "system", "3.14t": "3.14t"},
        {"threaded": {"multiplexes": False, "peak_in_process": None}, "multiplexed": {"multiplexes": True}},
    )


def test_every_combination_becomes_a_cell_with_the_servers_cores() -> None:
    asked = experiment(concurrency=[8, 37], keepalive=[True, False], cores=[2, "all"])
    cells = plan_host(asked, host(4)).cells
    assert len(cells) == 2 * 4 * 2 * 2 * 2
    assert {cell.cores for cell in cells} == {2, 4}


def test_levels_that_mean_the_same_on_a_host_are_one_cell() -> None:
    assert plan_host(experiment(cores=[2, "all"]), host(2)).cells == plan_host(experiment(), host(2)).cells


def test_impossible_combinations_are_dropped_with_a_reason() -> None:
    planned = plan_host(
        experiment(cores=[1, 2, 8], placement=["shared", "split"], lighttpd=["default", "1.4.59"]), host(2)
    )
    reasons = [dropped.reason for dropped in planned.dropped]
    assert any("8 server cores, but the host has 2" in reason for reason in reasons)
    assert any("cores 2, placement split" in reason for reason in reasons)
    assert any("lighttpd 1.4.59 is not built there" in reason for reason in reasons)
    assert sum(dropped.cells for dropped in planned.dropped) + len(planned.cells) == 2 * 4 * 3 * 2 * 2


def test_pythons_are_resolved_on_the_host_and_those_that_it_lacks_are_dropped() -> None:
    planned = plan_host(experiment(python=["default", "system", "3.14t", "3.99"]), host(2))
    assert {cell.python for cell in planned.cells} == {"system", "3.14t"}
    (dropped,) = planned.dropped
    assert dropped.cells == 2 * 4
    assert dropped.reason == "python 3.99 is not there; provision it or leave the level out"


ON_THE_WIRE = {"tool": "fcgi", "concurrency": 8}
REGIMES = {"connections": [1, 2, 4, 8], "in_flight": [1, 2, 4, 8], "keep_conn": [False, True]}


def test_the_wire_is_measured_at_equal_totals_in_every_regime_that_can_be() -> None:
    planned = plan_host(experiment(load=ON_THE_WIRE, processes=[1, 2], **REGIMES), host(2))
    seen = {
        (cell.handler, cell.processes, cell.connections, cell.in_flight, cell.keep_conn)
        for cell in planned.cells
    }
    assert seen == {
        (handler, processes, 8, 1, kept)
        for handler in ("threaded", "multiplexed")
        for processes in (1, 2)
        for kept in (False, True)
    } | {
        ("multiplexed", processes, connections, 8 // connections, True)
        for processes in (1, 2)
        for connections in (1, 2, 4)
        if connections >= processes
    }
    assert {(cell.concurrency, cell.tool) for cell in planned.cells} == {(8, "fcgi")}
    assert all(cell.keepalive == cell.keep_conn for cell in planned.cells)
    assert {dropped.reason.partition(":")[0]: dropped.cells for dropped in planned.dropped} == {
        "connections x in_flight is not 8": 60,
        "in_flight above 1 without keep_conn": 48,
        "in_flight above 1": 5,
        "connections that cannot be shared evenly by the processes": 2,
    }


def test_kept_connections_are_no_more_than_a_handler_can_take() -> None:
    serial = replace(host(), promises={"serial": {"multiplexes": False, "peak_in_process": 1}})
    both = {"processes": [1, 2], "keep_conn": [False, True]}
    wire = experiment(load={"tool": "fcgi"}, handler="serial", connections=2, **both)
    planned = plan_host(wire, serial)
    assert {(cell.processes, cell.keep_conn) for cell in planned.cells} == {(1, False), (2, False), (2, True)}
    assert planned.dropped[0].reason.startswith("kept connections: a process of serial takes one")


def test_without_a_total_every_one_on_the_wire_is_measured() -> None:
    wire = experiment(
        load={"tool": "fcgi"}, processes=1, connections=[1, 3], in_flight=[1, 2], keep_conn=True
    )
    cells = plan_host(wire, host()).cells
    assert {cell.concurrency for cell in cells if cell.handler == "multiplexed"} == {1, 2, 3, 6}
    assert Experiment.model_validate(wire.normalised()).normalised() == wire.normalised()


def test_the_wire_has_no_ceiling_and_its_sentinel_opens_a_connection_for_each_request() -> None:
    wire = experiment(blocks=1, load=ON_THE_WIRE, processes=1, **REGIMES)
    planned = plan_host(wire, host(3))
    assert planned.ceiling is None
    reference = planned.reference
    assert (reference.handler, reference.processes, reference.keep_conn) == ("threaded", 2, False)
    assert (reference.connections, reference.in_flight) == (8, 1)
    assert Role.CEILING not in {trial.role for trial in make_schedule(wire, [planned])}


def test_handlers_on_their_own_sockets_are_not_loaded_from_another_host() -> None:
    far = replace(host(), load_from="other", load_machine="elsewhere")
    planned = plan_host(experiment(load=ON_THE_WIRE, processes=1, placement="remote"), far)
    assert planned.cells == ()
    assert "reached on their own host only" in planned.dropped[0].reason


def test_a_host_that_fits_nothing_has_no_cells_and_no_trials() -> None:
    nothing = plan_host(experiment(cores=64), host(2))
    assert nothing.cells == ()
    assert make_schedule(experiment(cores=64), [nothing]) == ()


@pytest.mark.parametrize(
    ("pool", "cores", "placement", "server", "load"),
    [
        (CpuPool((0, 1, 2, 3)), "all", "shared", (0, 1, 2, 3), (0, 1, 2, 3)),
        (CpuPool((0, 1, 2, 3)), 2, "shared", (0, 1), (0, 1)),
        (CpuPool((4, 5)), 1, "shared", (4,), (4,)),
        (CpuPool((0, 1, 2, 3)), "all", "split", (0, 1, 2), (3,)),
        (CpuPool((0, 1, 2, 3)), 2, "split", (0, 1), (2, 3)),
        (CpuPool((0, 1, 2, 3), load=(0,)), "all", "split", (1, 2, 3), (0,)),
        (CpuPool((0, 1, 2, 3), server=(2, 3)), "all", "split", (2, 3), (0, 1)),
    ],
)
def test_cpus_are_divided(
    pool: CpuPool, cores: int | str, placement: str, server: tuple[int, ...], load: tuple[int, ...]
) -> None:
    share = share_cpus(pool, cores, placement)
    assert (share.server, share.load) == (server, load)


@pytest.mark.parametrize(
    ("pool", "cores", "placement", "reason"),
    [
        (CpuPool((0,)), "all", "split", "the host has 1"),
        (CpuPool((0, 1)), 2, "split", "the host has 2 cores in all"),
        (CpuPool((0, 1)), 3, "shared", "3 server cores, but the host has 2"),
        (CpuPool((0, 1), server=(7,)), "all", "shared", "reserves CPU 7"),
    ],
)
def test_cpus_that_do_not_suffice_are_told(
    pool: CpuPool, cores: int | str, placement: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        share_cpus(pool, cores, placement)


def blocks_of(trials: tuple[Trial, ...]) -> dict[tuple[str, int], list[Trial]]:
    blocks: dict[tuple[str, int], list[Trial]] = {}
    for trial in trials:
        blocks.setdefault((trial.host, trial.block), []).append(trial)
    return blocks


@given(seed=st.integers(0, 2**63 - 1), counts=st.sets(st.integers(1, 30), min_size=1, max_size=6))
def test_a_block_is_complete_and_pairs_stand_together(seed: int, counts: set[int]) -> None:
    asked = experiment(blocks=3, seed=seed, processes=sorted(counts))
    planned = plan_host(asked, host(2))
    for block in blocks_of(make_schedule(asked, [planned])).values():
        assert sorted(t.cell for t in block if t.role is Role.CELL) == list(planned.cells)
        assert [t.position for t in block] == list(range(1, len(block) + 1))
        roles = [t.role for t in block]
        assert roles.count(Role.CEILING) == roles.count(Role.DUPLICATE) == 1
        assert roles.count(Role.SENTINEL) == 3
        assert roles[0] is roles[-1] is Role.SENTINEL
        cells = [t for t in block if t.role is Role.CELL]
        for first, second in zip(cells[::2], cells[1::2], strict=True):
            assert first.cell.processes == second.cell.processes
            assert second.position == first.position + 1


def test_the_middle_sentinel_is_near_the_middle() -> None:
    block = make_schedule(
        experiment(blocks=1, processes="1..16"), [plan_host(experiment(processes="1..16"), host())]
    )
    middle = [t.position for t in block if t.role is Role.SENTINEL][1]
    assert 0.3 < middle / len(block) < 0.7


def test_orders_differ_between_blocks_and_hosts_and_the_coin_falls_both_ways() -> None:
    asked = experiment(blocks=20)
    trials = make_schedule(asked, [plan_host(asked, host(name=name)) for name in ("a", "b")])
    orders = [tuple(t.cell for t in block) for block in blocks_of(trials).values()]
    assert len(set(orders)) > 35
    leads = [
        first.cell.handler
        for first, second in pairwise(t for t in trials if t.role is Role.CELL)
        if first.cell.processes == second.cell.processes == 1 and first.block == second.block
    ]
    assert 8 < leads.count("threaded") < 32


def test_the_sentinel_is_threaded_with_as_many_processes_as_cores() -> None:
    planned = plan_host(experiment(), host(4))
    assert (planned.reference.handler, planned.reference.processes) == ("threaded", 4)
    assert (planned.ceiling.handler, planned.ceiling.processes) == ("static", 0)


def test_without_sentinel_only_cells_and_ceiling_are_left() -> None:
    asked = experiment(blocks=1, sentinel=False)
    roles = [t.role for t in make_schedule(asked, [plan_host(asked, host())])]
    assert sorted(roles) == sorted([Role.CELL] * 8 + [Role.CEILING])


def test_the_schedule_does_not_depend_on_the_order_in_the_file() -> None:
    one, other = experiment(), experiment(handler=["multiplexed", "threaded"], processes=[4, 2, 3, 1])
    assert make_schedule(one, [plan_host(one, host())]) == make_schedule(other, [plan_host(other, host())])


FIRST_NUMBERS = [0x0986DA159EEE8B34, 0xA7BA99BA16667C7E]
FIRST_SHUFFLE = "fhdacgbe"


def test_the_random_numbers_are_the_documented_ones() -> None:
    # computed apart from the code, with sha256sum over "2007/lab-2core/1/<n>"
    stream = RandomStream(2007, "lab-2core", 1)
    assert [stream.below(1 << 64) for _ in range(2)] == FIRST_NUMBERS
    assert RandomStream(2007, "lab-2core", 1).shuffled("abcdefgh") == list(FIRST_SHUFFLE)


def test_a_trial_survives_the_way_through_the_schedule_file() -> None:
    asked = experiment()
    trials = make_schedule(asked, [plan_host(asked, host())])
    document = schedule_document(2007, trials)
    assert tuple(Trial.from_json(trial) for trial in document["trials"]) == trials
    assert document["trials"][0]["trial"] == "h.b01.001"
    assert set(document["trials"][0]["cell"]) == set(Cell.__dataclass_fields__)


def test_a_cell_of_an_older_run_is_read_as_what_it_was() -> None:
    cell = Cell.from_json(
        {"handler": "threaded", "processes": 2, "concurrency": 8, "keepalive": False, "cores": 2,
         "placement": "shared", "workload": "hello", "tool": "ab", "lighttpd": "1.4.79"}
    )  # fmt: skip
    assert (cell.python, cell.connections, cell.in_flight, cell.keep_conn) == ("default", None, None, None)
    assert str(cell) == "threaded x2, c=8, 2 cores"
    assert str(replace(cell, workload="cpu(500)")) == "threaded x2, cpu(500), c=8, 2 cores"


def test_a_cell_on_the_wire_names_its_regime() -> None:
    cells = plan_host(experiment(load=ON_THE_WIRE, processes=1, **REGIMES), host()).cells
    assert {"multiplexed x1, 8x1 fresh, 2 cores", "multiplexed x1, 1x8 kept, 2 cores"} <= set(map(str, cells))


def test_hosts_of_one_machine_take_their_time_one_after_the_other() -> None:
    asked = experiment(blocks=1)
    hosts = [host(name="a"), host(name="b"), host(name="c", machine="other")]
    trials = make_schedule(asked, [plan_host(asked, h) for h in hosts])
    alone = make_schedule(asked, [plan_host(asked, hosts[0])])
    assert expected_duration_s(asked, trials) == pytest.approx(2 * expected_duration_s(asked, alone))


def test_a_handler_that_cannot_run_on_a_host_is_dropped_there_with_the_reason() -> None:
    asked = experiment(handler=["threaded", "limit"], processes=[1, 2])
    planned = plan_host(asked, replace(host(2), absent={"limit": "limit is not compiled here"}))
    assert {cell.handler for cell in planned.cells} == {"threaded"}
    assert [(each.reason, each.cells) for each in planned.dropped] == [("limit is not compiled here", 2)]
