"""From an experiment and the facts of the hosts to the cells of each host. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.catalogue import STATIC
from controller.cells import Cell
from controller.experiment import Experiment
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
    lighttpd : mapping of str to str
        Version that each lighttpd level of the experiment stands for on this host; missing where it has none.
    load_from, load_machine : str or None
        The host that makes the load in trials with placement `remote`, and its physical box.
    assumed : bool
        Whether the CPUs are a guess because the host has never been asked.
    """

    name: str
    machine: str
    pool: CpuPool
    lighttpd: Mapping[str, str]
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
    ceiling : Cell
        lighttpd alone.
    dropped : tuple of Dropped
        What cannot be run there, and why.
    """

    host: PlannedHost
    cells: tuple[Cell, ...]
    reference: Cell
    ceiling: Cell
    dropped: tuple[Dropped, ...]


def plan_host(experiment: Experiment, host: PlannedHost) -> HostPlan:
    """Combine all levels and drop the combinations that the host cannot run.

    Two combinations that come out as the same cell (`cores: [2, all]` on a host with 2 cores) are one.

    Returns
    -------
    HostPlan
        Without cells if nothing fits the host; `dropped` then says why.
    """
    factors = experiment.factors
    combinations = itertools.product(
        factors.handler,
        factors.processes,
        factors.concurrency or (experiment.load.concurrency,),
        factors.keepalive or (experiment.load.keepalive,),
        factors.cores,
        factors.placement,
        factors.workload or (experiment.workload,),
        factors.lighttpd,
    )
    cells: dict[Cell, None] = {}
    dropped: dict[str, int] = {}
    for handler, processes, concurrency, keepalive, cores, placement, workload, lighttpd in combinations:
        version = host.lighttpd.get(lighttpd)
        if version is None:
            _count(dropped, f"lighttpd {lighttpd} is not built there; provision it or leave the version out")
            continue
        if reason := _impossible(host, experiment.load.tool, keepalive, placement):
            _count(dropped, reason)
            continue
        try:
            share = share_cpus(host.pool, cores, placement)
        except ValueError as error:
            _count(dropped, f"cores {cores}, placement {placement}: {error}")
            continue
        cell = Cell(
            handler, processes, concurrency, keepalive, len(share.server), placement, workload,
            experiment.load.tool, version,
        )  # fmt: skip
        cells[cell] = None
    ordered = tuple(sorted(cells))
    first = ordered[0] if ordered else _nothing(experiment, host)
    return HostPlan(
        host=host,
        cells=ordered,
        reference=_like(first, REFERENCE_HANDLER, first.cores),
        ceiling=_like(first, STATIC, 0),
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
    return experiment.load.warmup_s + experiment.load.measure_s + OVERHEAD_S


def _impossible(host: PlannedHost, tool: str, keepalive: bool, placement: str) -> str | None:
    if tool in KEEPS_CONNECTIONS and not keepalive:
        return f"keepalive false: {tool} always keeps its connections; use ab or wrk"
    if placement == "remote" and host.load_from is None:
        return (
            "placement remote: the host has no load_from in the inventory; name the host that makes the load"
        )
    return None


def _count(dropped: dict[str, int], reason: str) -> None:
    dropped[reason] = dropped.get(reason, 0) + 1


def _like(cell: Cell, handler: str, processes: int) -> Cell:
    return Cell(
        handler, processes, cell.concurrency, cell.keepalive, cell.cores, cell.placement, cell.workload,
        cell.tool, cell.lighttpd,
    )  # fmt: skip


def _nothing(experiment: Experiment, host: PlannedHost) -> Cell:
    load = experiment.load
    return Cell(
        REFERENCE_HANDLER, 1, load.concurrency, load.keepalive, len(host.pool.cpus), "shared",
        experiment.workload, load.tool, next(iter(host.lighttpd.values()), "none"),
    )  # fmt: skip
