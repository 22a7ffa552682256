"""Confirming suspected peaks: what the report asks for, and the experiment that measures just that. Pure.

The report knows which cells decide whether a peak is real (`report/summary.json`, key `confirmation`). Here
they become an experiment that names its cells instead of combining levels.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictBool, StrictInt, StrictStr

from controller.cells import Role, Trial, core_count
from controller.errors import RunRefused
from controller.experiment import Experiment, Factors
from controller.plan import HostPlan, PlannedHost, plan_host

NAME_SUFFIX = "-confirm"
NAME_LENGTH = 61


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Suspect(_Record):
    """A number of processes that leads although it is not the number of cores."""

    host: StrictStr
    setting: StrictStr
    handler: StrictStr
    processes: StrictInt
    cores: StrictInt


class Condition(_Record):
    """All levels of a cell but handler and processes."""

    concurrency: StrictInt
    keepalive: StrictBool
    cores: StrictInt
    placement: StrictStr
    workload: StrictStr
    tool: StrictStr
    lighttpd: StrictStr
    python: StrictStr = "default"
    connections: StrictInt | None = None
    in_flight: StrictInt | None = None
    keep_conn: StrictBool | None = None


class ConfirmationPlan(_Record):
    """What decides about one suspect: these counts under each condition, in so many blocks."""

    suspect: Suspect
    counts: tuple[StrictInt, ...]
    conditions: tuple[Condition, ...]
    blocks: StrictInt


class ConfirmationAnswer(_Record):
    """The key `confirmation` of summary.json: what to confirm, and why the rest is not to be."""

    plans: tuple[ConfirmationPlan, ...]
    nothing_for: tuple[StrictStr, ...]


class Row(Condition):
    """Cells of one host that differ in the number of processes alone."""

    host: StrictStr
    handler: StrictStr
    processes: tuple[StrictInt, ...]


class Confirmation(Experiment):
    """An experiment that names its cells; `factors` only lists the levels that occur in them."""

    cells: tuple[Row, ...]

    def parts(self, host: str) -> Iterator[Experiment]:
        """Yield experiments without named cells that together have exactly the cells of a host."""
        shared = {name: getattr(self, name) for name in Experiment.model_fields}
        for row in self.cells:
            if row.host == host:
                load = self.load.model_copy(update={"tool": row.tool})
                yield Experiment.model_validate({**shared, "factors": _factors([row]), "load": load})


def confirming_experiment(
    run_id: str, confirmed: Experiment, plans: Sequence[ConfirmationPlan], blocks: int | None
) -> Confirmation:
    """Return the experiment that confirms the suspects of a run.

    Parameters
    ----------
    run_id : str
        The run in which they were seen.
    confirmed : Experiment
        Its experiment; load times, indifference and attempts stay as they are.
    plans : sequence of ConfirmationPlan
        At least one.
    blocks : int or None
        None for as many as the plans ask for.
    """
    rows = [
        Row(
            host=plan.suspect.host,
            handler=plan.suspect.handler,
            processes=plan.counts,
            **condition.model_dump(),
        )
        for plan in plans
        for condition in plan.conditions
    ]
    counts = ", ".join(str(count) for count in sorted({plan.suspect.processes for plan in plans}))
    design = confirmed.design.model_copy(
        update={
            "seed": fresh_seed(confirmed.design.seed, run_id),
            "blocks": blocks or max(plan.blocks for plan in plans),
        }
    )
    return Confirmation.model_validate(
        {
            **{name: getattr(confirmed, name) for name in Experiment.model_fields},
            "name": confirmed.name[: NAME_LENGTH - len(NAME_SUFFIX)] + NAME_SUFFIX,
            "question": f"Is the peak at {counts} processes real that {run_id} suggests?",
            "hosts": ",".join(dict.fromkeys(row.host for row in rows)),
            "factors": _factors(rows),
            "design": design,
            "cells": rows,
        }
    )


def fresh_seed(seed: int, run_id: str) -> int:
    """Derive another seed from the seed and the identity of a run: always the same, never equal to it."""
    fresh = int.from_bytes(hashlib.sha256(f"confirm/{seed}/{run_id}".encode()).digest()[:4])
    return fresh if fresh != seed else fresh + 1


def plan_confirmation(experiment: Confirmation, host: PlannedHost) -> HostPlan:
    """Return the named cells of a host; sentinel and ceiling belong to the first suspect's own condition.

    Raises
    ------
    RunRefused
        When the host cannot run every one of them.
    """
    parts = [plan_host(part, host) for part in experiment.parts(host.name)]
    if dropped := [each for part in parts for each in part.dropped]:
        raise RunRefused(
            f"{host.name}: cannot be measured as it was: {dropped[0].reason}; undo that change, or run the "
            "experiment anew and confirm that run"
        )
    cells = {cell for part in parts for cell in part.cells}
    return HostPlan(host, tuple(sorted(cells)), parts[0].reference, parts[0].ceiling, ())


_COUNTS_TOLD = "the suspect, its neighbours, the cores, twice the cores, the runner-up: it must beat all"
_EXPLORED_TOLD = "new blocks under the same conditions: those that suggest a peak cannot also prove it"
_TOLD = {
    "concurrency": "a peak that moves with the load's concurrency is its artefact; REAL takes three levels",
    "keepalive": "a peak that is there only with connections kept, or only with new ones, is not REAL",
    "tool": "a peak that only one load generator shows may be its own doing",
}
"""Why cells are measured under conditions other than the explored ones, by what differs."""


def plan_lines(plans: Iterable[ConfirmationPlan]) -> Iterator[str]:
    """Say what is measured about each suspect, and why each kind of cell is."""
    for plan in plans:
        suspect = plan.suspect
        setting = f", {suspect.setting}" if suspect.setting else ""
        yield (
            f"{suspect.host} ({core_count(suspect.cores)}{setting}): "
            f"is the peak of {suspect.handler} at {suspect.processes} real?"
        )
        yield f"  processes {', '.join(map(str, plan.counts))}: {_COUNTS_TOLD}"
        explored, *others = (condition.model_dump() for condition in plan.conditions)
        said = plan.conditions[0].model_dump(exclude_defaults=True)
        yield f"  {', '.join(f'{name} {level}' for name, level in said.items())}: {_EXPLORED_TOLD}"
        for name, levels in _other_levels(explored, others).items():
            told = f": {_TOLD[name]}" if name in _TOLD else ""
            yield f"  and {name} {', '.join(levels)}{told}"


def _other_levels(explored: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the levels of each factor in which conditions differ from the explored ones."""
    levels: dict[str, list[str]] = {}
    for other in others:
        for name, level in other.items():
            if level != explored[name]:
                levels.setdefault(name, []).append(str(level))
    return levels


_ROLES_TOLD: Mapping[Role, str] = {
    Role.CELL: "what decides, as above",
    Role.SENTINEL: "the reference cell at the start, middle and end of a block: did the host hold still?",
    Role.DUPLICATE: "the same under another label: by how much does a cell differ from itself?",
    Role.CEILING: "lighttpd with a static file: what server and load generator can do at all",
}


def role_lines(trials: Iterable[Trial]) -> Iterator[str]:
    """Say how many trials there are of each role, and what for."""
    counts = Counter(trial.role for trial in trials)
    for role, told in _ROLES_TOLD.items():
        if counts[role]:
            yield f"  {counts[role]} x {role}: {told}"


def _factors(rows: Sequence[Row]) -> Factors:
    return Factors(
        handler=_levels(row.handler for row in rows),
        processes=_levels(count for row in rows for count in row.processes),
        concurrency=_levels(row.concurrency for row in rows),
        keepalive=_levels(row.keepalive for row in rows),
        cores=_levels(row.cores for row in rows),
        placement=_levels(row.placement for row in rows),
        workload=_levels(row.workload for row in rows),
        lighttpd=_levels(row.lighttpd for row in rows),
        python=_levels(row.python for row in rows),
        connections=_levels(row.connections for row in rows) or None,
        in_flight=_levels(row.in_flight for row in rows) or None,
        keep_conn=_levels(row.keep_conn for row in rows) or None,
    )


def _levels(found: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted(set(found) - {None}))
