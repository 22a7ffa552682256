"""Looks at one responder: what it says it can do, whether it does that right, and roughly how fast."""

from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional

from agent.wire.capabilities import UNREACHABLE, ask
from agent.wire.client import drive
from agent.wire.protocol import Request, web_request
from agent.wire.results import Capabilities, Check, Expectation, ProbeResult, WireLoad, WireResult

INTERLEAVED_IDS = 4
_REQUESTS_PER_CHECK = 8
_RATE_S = 0.5


def _words(result: WireResult) -> str:
    if result.failed:
        return "; ".join(result.examples[:2])
    seen = result.evidence
    return (
        f"{result.ok} right answers, {seen.connections_opened} connections, "
        f"highest request id {seen.highest_id}, {seen.interleaved_answers} interleaved, "
        f"{seen.out_of_order_answers} out of order"
    )


class _Probe:
    """One look at one responder."""

    def __init__(self, address: str, request: Request, expectation: Expectation, timeout_s: float) -> None:
        self._fresh = WireLoad(
            (address,),
            request,
            expectation,
            duration_s=timeout_s,
            count=_REQUESTS_PER_CHECK,
            answer_timeout_s=timeout_s,
            faults_allowed=_REQUESTS_PER_CHECK,
        )
        self._kept = dataclasses.replace(self._fresh, keep_conn=True)
        self._interleaved = dataclasses.replace(self._kept, in_flight=INTERLEAVED_IDS)
        self.checks: List[Check] = []
        self.rates_rps: Dict[str, Optional[float]] = {"fresh": None, "kept": None, "interleaved": None}

    def _note(self, name: str, passed: Optional[bool], detail: str) -> bool:
        self.checks.append(Check(name, passed, detail))
        return passed is True

    def _rate(self, regime: str, load: WireLoad) -> None:
        result = drive(dataclasses.replace(load, duration_s=_RATE_S, count=None))
        if not result.failed:
            self.rates_rps[regime] = result.goodput_rps

    def fresh(self) -> bool:
        """Check requests on connections of their own; return whether they were right."""
        result = drive(self._fresh)
        if not self._note("responses", result.failed == 0 and result.ok > 0, _words(result)):
            return False
        self._rate("fresh", self._fresh)
        return True

    def kept(self) -> bool:
        """Check that a connection is kept when that is asked for; return whether it is."""
        result = drive(self._kept)
        seen = result.evidence
        if result.failed == 0 and seen.connections_opened > 1:
            detail = f"the responder closed {seen.closed_by_responder} connections that it was asked to keep"
            return self._note("keep_conn", False, detail)
        if not self._note("keep_conn", result.failed == 0, _words(result)):
            return False
        self._rate("kept", self._kept)
        return True

    def interleaved(self, claimed: Optional[bool]) -> None:
        """Check several requests at once on a connection: failing is wrong only for who claims it."""
        if claimed is False:
            self._note("interleaving", None, "not claimed (FCGI_MPXS_CONNS=0), not tried")
            return
        result = drive(self._interleaved)
        if result.failed and claimed is None:
            self._note("interleaving", None, f"not claimed, and it does not work: {_words(result)}")
        elif self._note("interleaving", result.failed == 0, _words(result)):
            self._rate("interleaved", self._interleaved)


def probe(
    address: str,
    timeout_s: float = 3.0,
    request: Optional[Request] = None,
    expectation: Optional[Expectation] = None,
) -> ProbeResult:
    """Probe the responder at an address.

    Parameters
    ----------
    address : str
        A unix socket's path or host:port.
    timeout_s : float
        How long to wait for any one answer.
    request : Request, optional
        What to ask for; default is a GET of ``/``.
    expectation : Expectation, optional
        What a right answer looks like; by default any 2xx answer of the length that it announces itself.

    Raises
    ------
    AddressError
        When the address cannot be read. Everything else is in the result.
    """
    capabilities = ask(address, timeout_s)
    if capabilities.answer == UNREACHABLE:
        reachable = Check("reachable", False, f"{capabilities.detail}; is a responder listening there?")
        return ProbeResult(address, capabilities, (reachable,), {})
    one = _Probe(address, request or web_request("/"), expectation or Expectation(), timeout_s)
    if one.fresh() and one.kept():
        one.interleaved(capabilities.multiplexes)
    return ProbeResult(address, capabilities, tuple(one.checks), one.rates_rps)


def refusal(capabilities: Capabilities, load: WireLoad) -> Optional[str]:
    """Return why a load cannot be put on a responder, or None when it can (or claims to).

    A responder that does not say whether it multiplexes is tried with a few requests on its first address.
    One that claims it is not tried here: if it fails then, that belongs into the measurement.
    """
    if load.in_flight == 1 or capabilities.multiplexes:
        return None
    refused = capabilities.refuses(load.in_flight)
    if refused is not None:
        return refused
    few = dataclasses.replace(
        load,
        addresses=load.addresses[:1],
        connections=1,
        count=2 * load.in_flight,
        duration_s=load.answer_timeout_s,
    )
    result = drive(few)
    if not result.failed:
        return None
    return (
        f"the responder does not say whether it multiplexes, and tried out it does not: {result.examples[0]}"
    )
