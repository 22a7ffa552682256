"""From an experiment and the facts of the hosts to the cells of each host. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from controller.catalogue import STATIC
from controller.cells import Cell
from controller.experiment import Experiment, Regime
from controller.machines import joined
from controller.placement import CpuPool, share_cpus

REFERENCE_HANDLER = "threaded"
KEEPS_CONNECTIONS = ("h2load",)
"""Load generators that cannot open a connection for each request."""
OVERHEAD_S = 0.8
"""Time of a trial outside warm-up and measurement, as far as planning is concerned."""


@dataclass(frozen=True, slots=True)
class PlannedHost:
    """What planning needs to know about a host.

    Attributes
    ----------
    name, machine : str
        Inventory name and physical box.
    pool : CpuPool
        Its CPUs.
    lighttpd, python : mapping of str to str
        Version of lighttpd, and name of the interpreter, that each level of the experiment stands for on this
        host; missing where it has none.
    promises : mapping of str to mapping
        What each handler says of itself (`multiplexes`, `peak_in_process`), as far as it is known.
    absent : mapping of str to str
        Handlers that cannot run there, and why.
    load_from, load_machine : str or None
        The host that makes the load in trials with placement `remote`, and its physical box.
    assumed : bool
        Whether the CPUs are a guess because the host has never been asked.
    """

    name: str
    machine: str
    pool: CpuPool
    lighttpd: Mapping[str, str]
    python: Mapping[str, str]
    promises: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    load_from: str | None = None
    load_machine: str | None = None
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """Combinations of levels that a host cannot run."""

    host: str
    reason: str
    cells: int


@dataclass(frozen=True, slots=True)
class HostPlan:
    """All cells of one host.

    Attributes
    ----------
    host : PlannedHost
        The host.
    cells : tuple of Cell
        In canonical order, so that the order in the experiment file has no influence.
    reference : Cell
        The sentinel's cell.
    ceiling : Cell or None
        lighttpd alone; None on the wire, where there is no lighttpd.
    dropped : tuple of Dropped
        What cannot be run there, and why.
    """

    host: PlannedHost
    cells: tuple[Cell, ...]
    reference: Cell
    ceiling: Cell | None
    dropped: tuple[Dropped, ...]


def plan_host(experiment: Experiment, host: PlannedHost) -> HostPlan:
    """Combine all levels and drop the combinations that the host cannot run.

    Two combinations that come out as the same cell (`cores: [2, all]` on a host with 2 cores) are one.

    Returns
    -------
    HostPlan
        Without cells if nothing fits the host; `dropped` then says why.
    """
    cells: dict[Cell, None] = {}
    dropped: dict[str, int] = {}
    for levels in _combinations(experiment):
        version, python = host.lighttpd.get(levels.lighttpd), host.python.get(levels.python)
        if version is None or python is None:
            what = f"python {levels.python} is not" if version else f"lighttpd {levels.lighttpd} is not built"
            _count(dropped, f"{what} there; provision it or leave the level out")
            continue
        if reason := host.absent.get(levels.handler) or _impossible(host, experiment, levels):
            _count(dropped, reason)
            continue
        try:
            share = share_cpus(host.pool, levels.cores, levels.placement)
        except ValueError as error:
            _count(dropped, f"cores {levels.cores}, placement {levels.placement}: {error}")
            continue
        regime = levels.regime
        cell = Cell(
            levels.handler, levels.processes, regime.concurrency, regime.keepalive, len(share.server),
            levels.placement, levels.workload, experiment.load.tool, version, python,
            regime.connections, regime.in_flight, regime.keep_conn,
        )  # fmt: skip
        cells[cell] = None
    ordered = tuple(sorted(cells))
    first = ordered[0] if ordered else _nothing(experiment, host)
    return HostPlan(
        host=host,
        cells=ordered,
        reference=_reference(first),
        ceiling=None if experiment.on_the_wire else replace(first, handler=STATIC, processes=0),
        dropped=tuple(Dropped(host.name, reason, count) for reason, count in dropped.items()),
    )


def joined_machines(plans: Iterable[HostPlan]) -> dict[str, str]:
    """Return the machines that are measured as one, each with the name of its group."""
    return joined(
        (plan.host.machine, plan.host.load_machine)
        for plan in plans
        if plan.host.load_machine is not None and any(cell.placement == "remote" for cell in plan.cells)
    )


def trial_duration_s(experiment: Experiment) -> float:
    """Return the expected duration of one trial in seconds."""
    warmup_s = 0.0 if experiment.measure == "startup" else experiment.load.warmup_s
    return warmup_s + experiment.load.measured_s + OVERHEAD_S


class _Levels(NamedTuple):
    handler: str
    processes: int
    cores: int | str
    placement: str
    workload: str
    lighttpd: str
    python: str
    regime: Regime


def _combinations(experiment: Experiment) -> Iterator[_Levels]:
    factors = experiment.factors
    return itertools.starmap(
        _Levels,
        itertools.product(
            factors.handler,
            factors.processes,
            factors.cores,
            factors.placement,
            experiment.workloads,
            factors.lighttpd,
            factors.python,
            tuple(experiment.regimes()),
        ),
    )


def _impossible(host: PlannedHost, experiment: Experiment, levels: _Levels) -> str | None:
    tool = experiment.load.tool
    if experiment.on_the_wire:
        return _impossible_on_the_wire(host, experiment, levels)
    if tool in KEEPS_CONNECTIONS and not levels.regime.keepalive:
        return f"keepalive false: {tool} always keeps its connections; use ab or wrk"
    if levels.placement == "remote" and experiment.measure == "startup":
        return "placement remote: a start is loaded from the host itself"
    if levels.placement == "remote" and host.load_from is None:
        return (
            "placement remote: the host has no load_from in the inventory; name the host that makes the load"
        )
    return None


def _impossible_on_the_wire(host: PlannedHost, experiment: Experiment, levels: _Levels) -> str | None:
    regime, processes = levels.regime, levels.processes
    connections = regime.connections or 0
    if levels.placement == "remote":
        return "placement remote: handlers on their own sockets are reached on their own host only"
    if _interleaved(regime) and not regime.keep_conn:
        return "in_flight above 1 without keep_conn: a connection for each request carries one request"
    if regime.concurrency not in experiment.totals:
        wanted = " or ".join(map(str, experiment.totals))
        return f"connections x in_flight is not {wanted}: cells are compared at equal totals in flight"
    if connections < processes or connections % processes:
        return "connections that cannot be shared evenly by the processes"
    return _beyond_promise(host, levels)


def _beyond_promise(host: PlannedHost, levels: _Levels) -> str | None:
    regime, handler = levels.regime, levels.handler
    promised = host.promises.get(handler, {})
    if promised.get("multiplexes") is not False:
        return None
    if _interleaved(regime):
        return f"in_flight above 1: {handler} does not multiplex, as it says itself"
    if regime.keep_conn and promised.get("peak_in_process") == 1 and regime.connections != levels.processes:
        return f"kept connections: a process of {handler} takes one at a time, the others would wait for ever"
    return None


def _interleaved(regime: Regime) -> bool:
    return regime.in_flight is not None and regime.in_flight > 1


def _reference(cell: Cell) -> Cell:
    """Return the sentinel's cell: as many processes as cores, where that many can share the connections."""
    if cell.connections is None:
        return replace(cell, handler=REFERENCE_HANDLER, processes=cell.cores)
    processes = max(count for count in range(1, cell.cores + 1) if cell.concurrency % count == 0)
    return replace(
        cell, handler=REFERENCE_HANDLER, processes=processes, keepalive=False,
        connections=cell.concurrency, in_flight=1, keep_conn=False,
    )  # fmt: skip


def _count(dropped: dict[str, int], reason: str) -> None:
    dropped[reason] = dropped.get(reason, 0) + 1


def _nothing(experiment: Experiment, host: PlannedHost) -> Cell:
    regime = next(experiment.regimes())
    return Cell(
        REFERENCE_HANDLER, 1, regime.concurrency, regime.keepalive, len(host.pool.cpus), "shared",
        experiment.workload, experiment.load.tool, next(iter(host.lighttpd.values()), "none"),
        next(iter(host.python.values()), "none"), regime.connections, regime.in_flight, regime.keep_conn,
    )  # fmt: skip
