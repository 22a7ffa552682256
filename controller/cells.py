"""One combination of levels (`Cell`) and one measurement of it (`Trial`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

USUAL_PYTHONS = ("default", "system")
USUAL_WORKLOAD = "hello"


class Role(StrEnum):
    """Why a trial is in the schedule."""

    CELL = "cell"
    SENTINEL = "sentinel"
    DUPLICATE = "duplicate"
    CEILING = "ceiling"


def core_count(cores: int) -> str:
    """Return `1 core` or `2 cores`."""
    return f"{cores} core" if cores == 1 else f"{cores} cores"


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One combination of levels of all factors.

    Attributes
    ----------
    handler : str
        FastCGI concurrency model, or `static` for lighttpd alone.
    processes : int
        Handler processes; 0 for `static`.
    concurrency : int
        Requests that the load generator keeps in flight.
    keepalive : bool
        Whether the load generator re-uses its connections.
    cores : int
        Cores that the SERVER has, which may be fewer than the host's.
    placement : str
        `shared` (load on the server's cores), `split` (load on other cores of the host) or `remote` (load on
        another host).
    workload : str
        What a request makes the handler do.
    tool : str
        Load generator.
    lighttpd : str
        Version of lighttpd.
    python : str
        Interpreter that the handlers run in; `default` in runs that are older than this factor.
    connections, in_flight, keep_conn
        Of the wire, None for other tools than `fcgi`: connections open at once, requests open at once on
        each, and whether connections are kept. `concurrency` is then the product of the first two,
        `keepalive` the third, and lighttpd plays no part.
    """

    handler: str
    processes: int
    concurrency: int
    keepalive: bool
    cores: int
    placement: str
    workload: str
    tool: str
    lighttpd: str
    python: str = "default"
    connections: int | None = None
    in_flight: int | None = None
    keep_conn: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the levels as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Cell:
        """Read the levels back from a JSON object with exactly these keys; older runs lack the last four."""
        return cls(**document)

    def __str__(self) -> str:
        words = [self.handler if self.processes == 0 else f"{self.handler} x{self.processes}"]
        if self.workload != USUAL_WORKLOAD:
            words.append(self.workload)
        if self.connections is None:
            words.append(f"c={self.concurrency}")
        else:
            words.append(f"{self.connections}x{self.in_flight} {'kept' if self.keep_conn else 'fresh'}")
        words.append(core_count(self.cores))
        if self.keepalive and self.connections is None:
            words.append("keep-alive")
        if self.python not in USUAL_PYTHONS:
            words.append(f"python {self.python}")
        if self.placement != "shared":
            words.append(self.placement)
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Trial:
    """One cell, to be measured once on one host.

    Attributes
    ----------
    trial : str
        Identity within the run, such as `lab-2core.b01.004`.
    host, machine : str
        Inventory name, and the physical box behind it.
    block, position : int
        Both count from 1; the position counts within the block.
    role : Role
        Why the trial is there.
    cell : Cell
        What is measured.
    """

    trial: str
    host: str
    machine: str
    block: int
    position: int
    role: Role
    cell: Cell

    def to_json(self) -> dict[str, Any]:
        """Return the trial as it stands in schedule.json."""
        return {**asdict(self), "role": self.role.value}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Trial:
        """Read a trial back from schedule.json."""
        return cls(
            **{**document, "role": Role(document["role"]), "cell": Cell.from_json(document["cell"])},
        )
