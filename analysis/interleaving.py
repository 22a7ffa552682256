"""What re-use of connections buys and what interleaving buys, when handlers are driven on the wire."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import RatioAtCount, ratios_at_counts
from analysis.curves import WIRE_TOOL, regime_of
from analysis.handlers import REFERENCE_HANDLER
from analysis.intervals import median_interval
from analysis.tables import percent

FRESH, KEPT, MIXTURE, INTERLEAVED = "fresh", "kept", "mixture", "interleaved"
SAME_REQUESTS = 0.02
"""Share by which a handler's count of connections may differ from the requests: some are on their way."""

_GROUP = ["host", "background", "handler", "processes", "concurrency"]


@dataclass(frozen=True)
class Decomposition:
    """What one handler gains on the wire at one total of requests in flight.

    Parameters
    ----------
    host, background, handler : str
        Where; ``background`` names conditions that vary beside the regime.
    model : str
        The handler without its interpreter.
    cores, processes, total : int
        ``total`` requests are in flight in every regime.
    shape : tuple of int or None
        Connections and ids at once of the interleaved regime; ``None`` when none was measured.
    reuse : RatioAtCount or None
        Kept over fresh connections.
    interleaving : RatioAtCount or None
        Interleaved over kept: the answer to the question.
    whole : RatioAtCount or None
        Interleaved over fresh; its log ratio is the sum of the two above, block by block.
    mixtures : tuple of (str, RatioAtCount)
        Regimes between, over kept.
    against_reference : RatioAtCount or None
        Interleaved over ``threaded`` on kept connections: the best that needs no multiplexing.
    """

    host: str
    background: str
    handler: str
    model: str
    cores: int
    processes: int
    total: int
    shape: tuple[int, int] | None
    reuse: RatioAtCount | None
    interleaving: RatioAtCount | None
    whole: RatioAtCount | None
    mixtures: tuple[tuple[str, RatioAtCount], ...]
    against_reference: RatioAtCount | None


@dataclass(frozen=True)
class _Group:
    """The trials of one handler, process count and total, as log goodput by regime."""

    key: dict[str, Any]
    speeds: pd.DataFrame
    shape: tuple[int, int] | None

    def column(self, kind: str) -> pd.Series[float]:
        if kind in self.speeds:
            return self.speeds[kind]
        return pd.Series(np.nan, index=self.speeds.index)


def on_the_wire(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that were driven on the wire, with ``kind`` and ``regime``.

    Parameters
    ----------
    trials : DataFrame
        One row a trial, from `curves.with_setting`.
    """
    cells = trials[(trials["role"] == "cell") & (trials["tool"] == WIRE_TOOL)]
    deepest = cells.groupby(_GROUP, observed=True)["in_flight"].transform("max")
    kinds = np.select(
        [~cells["keep_conn"].eq(True), cells["in_flight"] == 1, cells["in_flight"] < deepest],
        [FRESH, KEPT, MIXTURE],
        INTERLEAVED,
    )
    return cells.assign(kind=kinds, regime=regime_of(cells))


def decompose(trials: pd.DataFrame, indifference: float) -> list[Decomposition]:
    """Decompose every handler's gain on the wire.

    Ratios are paired by block. Those of one kind and host are one family for Holm's correction.

    Parameters
    ----------
    trials : DataFrame
        One row a trial, from `curves.with_setting`.
    indifference : float
        δ as a fraction.

    Returns
    -------
    list of Decomposition
        By host, handler, process count and total.
    """
    cells = on_the_wire(trials)
    found: list[Decomposition] = []
    for _, own in cells.groupby(["host", "background"], observed=True):
        groups = [_group(dict(zip(_GROUP, key, strict=True)), part) for key, part in own.groupby(
            _GROUP, observed=True)]  # fmt: skip
        found += _decompose(groups, indifference)
    return found


def _group(key: dict[str, Any], part: pd.DataFrame) -> _Group:
    valid = part[part["status"] == "valid"]
    names = valid["kind"].where(valid["kind"] != MIXTURE, valid["regime"])
    speeds = np.log(valid["goodput_rps"]).groupby([valid["block"], names]).mean().unstack()
    speeds = speeds.reindex(np.sort(part["block"].unique()))
    key |= {"cores": int(part["cores"].iloc[0])}
    key |= {name: str(part[name].iloc[0]) for name in ("model", "python")}
    deep = part[part["kind"] == INTERLEAVED]
    shape = None if deep.empty else (int(deep["connections"].iloc[0]), int(deep["in_flight"].iloc[0]))
    return _Group(key, speeds, shape)


def _decompose(groups: Sequence[_Group], indifference: float) -> Iterator[Decomposition]:
    whole = [_complete(group) for group in groups]
    reuse = _ratios(whole, [(KEPT, FRESH)] * len(groups), indifference)
    interleaving = _ratios(whole, [(INTERLEAVED, KEPT)] * len(groups), indifference)
    both = _ratios(whole, [(INTERLEAVED, FRESH)] * len(groups), indifference)
    mixed = [
        (place, name)
        for place, group in enumerate(groups)
        for name in group.speeds.columns
        if name not in (FRESH, KEPT, INTERLEAVED)
    ]
    mixtures = _ratios(
        [groups[place] for place, _ in mixed], [(name, KEPT) for _, name in mixed], indifference
    )
    rivals = [_with_reference(group, groups) for group in groups]
    against = _ratios(rivals, [(INTERLEAVED, REFERENCE_HANDLER)] * len(groups), indifference)
    for place, group in enumerate(groups):
        yield Decomposition(
            host=str(group.key["host"]),
            background=str(group.key["background"]),
            handler=str(group.key["handler"]),
            model=group.key["model"],
            cores=group.key["cores"],
            processes=int(group.key["processes"]),
            total=int(group.key["concurrency"]),
            shape=group.shape,
            reuse=reuse[place],
            interleaving=interleaving[place],
            whole=both[place],
            mixtures=tuple(
                (name, ratio)
                for (other, name), ratio in zip(mixed, mixtures, strict=True)
                if other == place and ratio is not None
            ),
            against_reference=against[place],
        )


def _complete(group: _Group) -> _Group:
    """Keep the blocks in which every part of the product was measured, so that it is one."""
    parts = [kind for kind in (FRESH, KEPT, INTERLEAVED) if kind in group.speeds]
    return _Group(group.key, group.speeds.dropna(subset=parts), group.shape)


def _with_reference(group: _Group, groups: Sequence[_Group]) -> _Group:
    """Put the reference handler's kept connections beside a group's own speeds."""
    for other in groups:
        alike = all(other.key[name] == group.key[name] for name in ("processes", "concurrency", "python"))
        if alike and other.key["model"] == REFERENCE_HANDLER and group.key["model"] != REFERENCE_HANDLER:
            return _Group(
                group.key, group.speeds.assign(**{REFERENCE_HANDLER: other.column(KEPT)}), group.shape
            )
    return group


def _ratios(
    groups: Sequence[_Group], pairs: Sequence[tuple[str, str]], indifference: float
) -> list[RatioAtCount | None]:
    """Compare one pair of regimes a group, all of them one family; ``None`` where one was not measured."""
    measured = [place for place, group in enumerate(groups) if set(pairs[place]) <= set(group.speeds)]
    found: list[RatioAtCount | None] = [None] * len(groups)
    if not measured:
        return found
    blocks = sorted({block for place in measured for block in groups[place].speeds.index})
    sides = [
        np.column_stack([groups[place].column(pairs[place][side]).reindex(blocks) for place in measured])
        for side in (0, 1)
    ]
    counts = [int(groups[place].key["processes"]) for place in measured]
    for place, ratio in zip(
        measured, ratios_at_counts(counts, sides[0], sides[1], indifference), strict=True
    ):
        found[place] = ratio
    return found


def regime_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return one row a handler and regime: goodput with its interval, and what proves the regime.

    Parameters
    ----------
    trials : DataFrame
        One row a trial, from `curves.with_setting`.

    Returns
    -------
    DataFrame
        Numbers of the evidence are extremes over the valid trials, on the side that would disprove the
        regime; ``proven`` says whether every valid trial was what was asked, ``""`` without one.
    """
    rows = []
    for key, own in on_the_wire(trials).groupby([*_GROUP, "kind", "regime"], observed=True):
        valid = own[own["status"] == "valid"]
        speed = median_interval(valid["goodput_rps"].to_numpy(dtype=float))
        connections, in_flight = int(own["connections"].iloc[0]), int(own["in_flight"].iloc[0])
        rows.append(
            dict(zip([*_GROUP, "kind", "regime"], key, strict=True))
            | {"connections": connections, "in_flight": in_flight, "n": speed.n}
            | {"without_valid": len(own) - len(valid), "faults": _named_faults(own)}
            | {"median_rps": speed.estimate, "low_rps": speed.low, "high_rps": speed.high}
            | {name: float(valid[name].median()) for name in ("latency_p50_ms", "latency_p99_ms")}
            | _evidence(valid)
            | {"proven": _proven(valid, str(key[-2]), connections, in_flight)}
        )
    if not rows:
        return pd.DataFrame(columns=[*_GROUP, "kind", "regime", "n"])
    table = pd.DataFrame(rows)
    order = {FRESH: 0, KEPT: 1, MIXTURE: 2, INTERLEAVED: 3}
    table = table.assign(order=table["kind"].map(order)).sort_values([*_GROUP, "order", "in_flight"])
    bounds = dict.fromkeys(["low_rps", "high_rps"], float)
    return table.drop(columns="order").reset_index(drop=True).astype(bounds)


def _named_faults(own: pd.DataFrame) -> str:
    """Return the faults of the trials that never became valid."""
    faults = own.loc[own["status"] != "valid", "wire_faults"]
    return "; ".join(sorted({fault for fault in faults if fault}))


_EVIDENCE = {
    "wire_connections_opened": "median",
    "wire_requests_per_connection_mean": "median",
    "wire_highest_id": "max",
    "wire_peak_ids_per_connection": "max",
    "wire_peak_in_flight": "max",
    "wire_interleaved_answers": "median",
    "wire_out_of_order_answers": "median",
    "wire_closed_by_responder": "max",
    "handlers_requests": "median",
    "handlers_connections": "median",
    "handlers_highest_id": "max",
    "handlers_peak_ids_per_connection": "max",
    "handlers_peak_in_process": "max",
}


def _evidence(valid: pd.DataFrame) -> dict[str, float]:
    return {name: float(valid[name].agg(how)) if len(valid) else np.nan for name, how in _EVIDENCE.items()}


def _proven(valid: pd.DataFrame, kind: str, connections: int, in_flight: int) -> str:
    """Say whether client and handlers counted what was asked, in every valid trial."""
    if valid.empty:
        return ""
    sent = valid["wire_requests_per_connection_mean"] * valid["wire_connections_opened"]
    opened = valid["wire_connections_opened"]
    client = (valid["wire_highest_id"] == in_flight) & (valid["wire_peak_ids_per_connection"] == in_flight)
    client &= (opened - sent).abs() < 0.5 if kind == FRESH else opened == connections
    counted = valid["handlers_highest_id"].notna()
    handlers = (valid["handlers_highest_id"] == in_flight) & (
        valid["handlers_peak_ids_per_connection"] == in_flight
    )
    taken, served = valid["handlers_connections"], valid["handlers_requests"]
    if kind == FRESH:
        handlers &= taken.isna() | ((taken - served).abs() <= SAME_REQUESTS * served)
    else:
        handlers &= taken.isna() | (taken <= connections)
    if not client.all() or not (handlers | ~counted).all():
        return "no"
    return "client and handlers" if counted.all() else "client"


def decomposition_table(decompositions: Sequence[Decomposition]) -> pd.DataFrame:
    """Return one row a ratio of `decompose`, in percent."""
    rows = [
        {
            "host": item.host,
            "background": item.background,
            "handler": item.handler,
            "processes": item.processes,
            "total": item.total,
            "part": part,
            "ratio": text,
            "n": ratio.log_ratio.n,
            "percent": percent(ratio.log_ratio.estimate),
            "low_percent": None if ratio.log_ratio.low is None else percent(ratio.log_ratio.low),
            "high_percent": None if ratio.log_ratio.high is None else percent(ratio.log_ratio.high),
            "p_holm": ratio.p_holm,
            "p_equivalence": ratio.p_equivalence,
            "verdict": ratio.verdict,
            "blocks_needed": ratio.blocks_needed,
        }
        for item in decompositions
        for part, text, ratio in _parts(item)
        if ratio is not None
    ]
    frame = pd.DataFrame(rows)
    numbers = ["low_percent", "high_percent", "p_holm", "p_equivalence", "blocks_needed"]
    return frame.astype(dict.fromkeys(numbers, float)) if rows else frame


def _parts(item: Decomposition) -> Iterator[tuple[str, str, RatioAtCount | None]]:
    yield "re-use of connections", "kept / fresh", item.reuse
    for name, ratio in item.mixtures:
        yield "a mixture", f"{name} / kept", ratio
    yield "interleaving", "interleaved / kept", item.interleaving
    yield "both", "interleaved / fresh", item.whole
    yield "instead of threads", f"interleaved / {REFERENCE_HANDLER} kept", item.against_reference
