"""The two checks that only a measurement on the wire has: its regime must be the one that was asked for.

All others are those of a trial behind lighttpd (`agent.gates`), fed by `agent.load.fcgi`. Pure.
"""

from __future__ import annotations

from typing import Tuple

from agent.records import Gate
from agent.wire.results import WireLoad, WireResult

MIX_UPS = ("cant_mpx_conn", "wrong_id", "stray_record", "after_stream_end")
"""Faults that show a responder which does not keep interleaved requests apart."""


def judge(load: WireLoad, result: WireResult) -> Tuple[Gate, ...]:
    """Return the verdicts on the regime of one load."""
    return connections(load, result), multiplexing(load, result)


def connections(load: WireLoad, result: WireResult) -> Gate:
    """Check that connections were kept, to the last one, if and only if that was asked."""
    seen = result.evidence
    wanted = load.connections if load.keep_conn else result.sent
    return Gate(
        name="connections",
        passed=seen.connections_opened == wanted and seen.closed_by_responder == 0,
        value=seen.connections_opened,
        limit=wanted,
        unit="connections",
        detail=f"{'kept' if load.keep_conn else 'fresh'} connections were asked:"
        f" {seen.connections_opened} opened for {result.sent} requests,"
        f" {seen.closed_by_responder} closed by the responder",
    )


def multiplexing(load: WireLoad, result: WireResult) -> Gate:
    """Check that as many requests as asked were open at once on a connection, and none was mixed up."""
    seen = result.evidence
    mixed_up = sum(result.faults.get(name, 0) for name in MIX_UPS)
    exact = seen.highest_id == seen.peak_ids_per_connection == load.in_flight
    return Gate(
        name="multiplexing",
        passed=exact and mixed_up == 0,
        value=seen.peak_ids_per_connection,
        limit=load.in_flight,
        unit="requests at once on a connection",
        detail=f"at most {seen.peak_ids_per_connection} requests open on a connection,"
        f" highest request id {seen.highest_id}, {seen.interleaved_answers} answers interleaved,"
        f" {seen.out_of_order_answers} out of order, {mixed_up} refused or mixed up",
    )
