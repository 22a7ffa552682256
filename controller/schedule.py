"""The order of all trials: seeded, randomised complete blocks. Pure.

A block holds every cell of a host once. Cells that differ in the handler alone stand next to each other, in
an order that a coin decides; these groups, the static ceiling and the A/A duplicate are shuffled. The
sentinel stands at the start, in the middle and at the end.

The order depends on nothing but the seed, the host's name, the block's number and the cells: not on the
machine, the version of Python or the order in the experiment file. To that end the random numbers are made
here: the n-th number of a block is the first 8 bytes (big-endian) of sha256("<seed>/<host>/<block>/<n>"), n
counting from 0; numbers that would make a remainder uneven are passed over. The shuffle is that of Fisher and
Yates, from the last place down.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from controller.cells import Cell, Role, Trial
from controller.experiment import Experiment
from controller.plan import HostPlan, trial_duration_s

SCHEMA = 1
T = TypeVar("T")
Entry = tuple[Role, Cell]


class RandomStream:
    """Reproducible random numbers for one block of one host."""

    def __init__(self, seed: int, host: str, block: int) -> None:
        self._key = f"{seed}/{host}/{block}"
        self._drawn = 0

    def below(self, limit: int) -> int:
        """Return a number from 0 up to, but not including, `limit`."""
        even = (1 << 64) - (1 << 64) % limit
        while True:
            number = hashlib.sha256(f"{self._key}/{self._drawn}".encode()).digest()[:8]
            self._drawn += 1
            if (value := int.from_bytes(number, "big")) < even:
                return value % limit

    def shuffled(self, items: Iterable[T]) -> list[T]:
        """Return the items in a random order."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            chosen = self.below(last + 1)
            order[last], order[chosen] = order[chosen], order[last]
        return order


def make_schedule(experiment: Experiment, plans: Sequence[HostPlan]) -> tuple[Trial, ...]:
    """Order every trial of every host.

    Parameters
    ----------
    experiment : Experiment
        Gives seed, number of blocks, and whether there is a sentinel.
    plans : sequence of HostPlan
        Hosts without cells get no trials.

    Returns
    -------
    tuple of Trial
        Block by block and, within a block, host by host.
    """
    trials = []
    for block in range(1, experiment.design.blocks + 1):
        for plan in plans:
            if plan.cells:
                trials.extend(_block(experiment, plan, block))
    return tuple(trials)


def schedule_document(seed: int, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the content of schedule.json."""
    return {"schema": SCHEMA, "seed": seed, "trials": [trial.to_json() for trial in trials]}


def expected_duration_s(
    experiment: Experiment, trials: Iterable[Trial], joined: Mapping[str, str] = MappingProxyType({})
) -> float:
    """Return the expected duration in seconds; machines work in parallel, the hosts of one do not.

    `joined` names the group of machines that are measured as one.
    """
    per_machine = Counter(joined.get(trial.machine, trial.machine) for trial in trials)
    return max(per_machine.values(), default=0) * trial_duration_s(experiment)


def _block(experiment: Experiment, plan: HostPlan, block: int) -> list[Trial]:
    random = RandomStream(experiment.design.seed, plan.host.name, block)
    units = [random.shuffled(group) for group in _compared_groups(plan.cells)]
    if plan.ceiling is not None:
        units.append([(Role.CEILING, plan.ceiling)])
    sentinel: Entry = (Role.SENTINEL, plan.reference)
    if experiment.design.sentinel:
        units.append([(Role.DUPLICATE, plan.reference)])
    units = random.shuffled(units)
    if experiment.design.sentinel:
        units.insert(len(units) // 2, [sentinel])
        units = [[sentinel], *units, [sentinel]]
    entries = [entry for unit in units for entry in unit]
    return [
        Trial(
            trial=f"{plan.host.name}.b{block:02d}.{position:03d}",
            host=plan.host.name,
            machine=plan.host.machine,
            block=block,
            position=position,
            role=role,
            cell=cell,
        )
        for position, (role, cell) in enumerate(entries, start=1)
    ]


def _compared_groups(cells: Sequence[Cell]) -> list[list[Entry]]:
    groups: dict[Cell, list[Entry]] = {}
    for cell in sorted(cells):
        groups.setdefault(replace(cell, handler=""), []).append((Role.CELL, cell))
    return list(groups.values())
