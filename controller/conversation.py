"""What is said between the controller and the agents that take part in one attempt at a trial.

An agent that falls silent, ends without an answer or speaks another language is turned into the failure that
goes into the journal: whoever listens here always hears an end, and within a time that is known beforehand.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from agent.dialogue import (
    Begun,
    Event,
    LoadRequest,
    Order,
    Ready,
    RemoteLoad,
    Report,
    Time,
    Warm,
    event_from_json,
)
from agent.records import ClockOffset, Failure, LoadHost, Record, RecordError, Result, TrialRequest
from controller.errors import RemoteError
from controller.remote import POLL_S, NoLineYet, RemoteProcess, Transport

GRACE_S = 10.0
"""How long an agent may take to stop everything when it is asked to."""
CLOCK_QUESTIONS = 3

E = TypeVar("E", bound=Record)


class Broken(Exception):
    """An agent said, or did, something else than what was due.

    Parameters
    ----------
    failure : Failure
        What becomes of the trial.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.kind}: {failure.reason}")
        self.failure = failure


class Conversation:
    """One agent under way.

    Parameters
    ----------
    transport, process
        The way to its host, and the agent.
    request
        What it is asked.
    slack_s : float
        How long to wait for an agent that has reached its own deadline.
    cancel : threading.Event
        When it is set, the agent is asked to stop.
    who : str
        What a reason begins with; empty for the host that the trial belongs to.
    """

    def __init__(
        self,
        transport: Transport,
        process: RemoteProcess,
        request: TrialRequest | LoadRequest,
        *,
        slack_s: float,
        cancel: threading.Event,
        who: str = "",
    ) -> None:
        self._transport = transport
        self._process = process
        self._request = request
        self._waits_s = request.deadline_s + slack_s
        self._cancel = cancel
        self._who = who
        self._deadline = time.monotonic() + self._waits_s
        self._asked_to_stop = False
        self._over = False

    def ask(self) -> None:
        """Send the request; its deadline counts from now."""
        self._deadline = time.monotonic() + self._waits_s
        self._write(self._request)

    def order(self, do: str, load: RemoteLoad | None = None) -> None:
        """Say what comes next."""
        self._write(Order(do, load))

    def expect(self, kind: type[E]) -> E:
        """Return the next event of a kind.

        Raises
        ------
        Broken
            When the agent's answer is something else, or never comes.
        """
        while not isinstance(event := self._hear(), kind):
            if isinstance(event, Failure):
                raise Broken(event)
            if isinstance(event, Result | Report):
                self._over = True
                raise Broken(
                    self._failure("internal", f"it said {event.EVENT!r} where {kind.EVENT!r} was due")
                )
        if isinstance(event, Result | Report):
            self._over = True
            self._process.exit_code(2.0)
        return event

    def stop(self) -> Failure | None:
        """Have the agent end all it has started; return what it says about it, None if it was over before."""
        while not self._over:
            self._hang_up()
            event = self._hear()
            if isinstance(event, Failure):
                return event
            self._over = isinstance(event, Result | Report)
        return None

    def clock(self) -> tuple[float, float]:
        """Compare the host's wall clock with the controller's monotonic one.

        Returns
        -------
        tuple of float
            Their difference in seconds, and how far off it may be: the quickest of some questions counts.
        """
        answers = []
        for _ in range(CLOCK_QUESTIONS):
            asked = time.monotonic()
            self.order("clock")
            wall_s = self.expect(Time).wall_s
            answered = time.monotonic()
            answers.append(((answered - asked) / 2, wall_s - (asked + answered) / 2))
        uncertainty_s, difference_s = min(answers)
        return difference_s, uncertainty_s

    def _write(self, document: Record) -> None:
        try:
            self._process.write(json.dumps(document.to_json()) + "\n")
        except RemoteError as error:
            self._over = True
            raise Broken(self._failure(error.kind, error.reason)) from error

    def _hear(self) -> Event:
        while True:
            if self._cancel.is_set():
                self._hang_up()
            try:
                line = self._process.read_line(POLL_S)
            except NoLineYet:
                if time.monotonic() >= self._deadline:
                    return self._silent()
                continue
            except RemoteError as error:
                self._over = True
                return self._failure(error.kind, error.reason)
            if line is None:
                return self._ended_early()
            if line.strip():
                return self._understand(line)

    def _hang_up(self) -> None:
        if not self._asked_to_stop:
            self._asked_to_stop = True
            self._process.close_input()
            self._deadline = min(self._deadline, time.monotonic() + GRACE_S)

    def _understand(self, line: str) -> Event:
        try:
            document = json.loads(line)
            if document.get("event") == "failure" and "trial_id" not in document:
                self._over = True
                return self._failure(document["kind"], f"{document['reason']}; run 'fcgi-sweep provision'")
            event = event_from_json(document)
        except (ValueError, AttributeError, KeyError, RecordError) as error:
            self._over = True
            return self._failure(
                "internal",
                f"the agent speaks another language ({error}): {line[:200]!r}; run 'fcgi-sweep provision'",
            )
        if isinstance(event, Failure):
            self._over = True
            self._process.exit_code(2.0)
            if event.kind == "interrupted" and self._cancel.is_set():
                return replace(event, reason=self._who + "the run was interrupted")
            return replace(event, reason=self._who + event.reason)
        return event

    def _silent(self) -> Failure:
        self._over = True
        self._transport.close()  # the connection is of no use any more, and closing it ends the lease
        if self._cancel.is_set():
            return self._failure("interrupted", f"the run was interrupted; no word for {GRACE_S:.0f} s")
        waited_s = GRACE_S if self._asked_to_stop else self._waits_s
        return self._failure(
            "host_lost",
            f"no word from the agent for {waited_s:.0f} s: the host is frozen or its link is down",
        )

    def _ended_early(self) -> Failure:
        self._over = True
        code = self._process.exit_code(2.0)
        if self._cancel.is_set():
            return self._failure("interrupted", "the run was interrupted")
        if code is None:
            self._transport.close()
            return self._failure("host_lost", "the connection to the host broke in the middle of the trial")
        said = self._process.error_text().strip().splitlines()
        return self._failure(
            "internal",
            f"the agent {'was killed' if code < 0 else f'ended with {code}'} and gave no result:"
            f" {said[-1] if said else 'it said nothing'}",
            {"agent-stderr.txt": "\n".join(said)},
        )

    def _failure(self, kind: str, reason: str, raw: Mapping[str, str] | None = None) -> Failure:
        return Failure(
            trial_id=self._request.trial_id,
            attempt=self._request.attempt,
            kind=kind,
            reason=self._who + reason,
            raw=dict(raw or {}),
        )


def measure_on_one_host(server: Conversation) -> Result | Failure:
    """Have a trial measured whose load generator runs beside the server."""
    try:
        server.ask()
        return server.expect(Result)
    except Broken as broken:
        return broken.failure


def measure_on_two_hosts(server: Conversation, load: Conversation, load_host: str) -> Result | Failure:
    """Have a trial measured whose load comes from another host.

    Whatever happens to one of them, the other is stopped; neither goes on when this returns, unless it cannot
    be reached: then its own lease ends it.
    """
    try:
        server.ask()
        server.expect(Ready)
        load.ask()
        load.expect(Warm)
        clock = _offset(server.clock(), load.clock())
        server.order("begin")
        server.expect(Begun)
        load.order("go")
        report = load.expect(Report)
        host = LoadHost(load_host, report.system, report.timings_s, clock, report.orphans)
        server.order("end", RemoteLoad(report.report, report.asked_s, report.counters, host))
        result = server.expect(Result)
    except Broken as broken:
        load_end, server_end = load.stop(), server.stop()
        failure = broken.failure
        # a load fails, too, when the server's host goes away: then that is the reason
        if server_end is not None and server_end.kind == "host_lost":
            failure = server_end
        ends = [each.raw for each in (load_end, server_end) if each is not None]
        return replace(
            failure, raw={name: text for raw in (*ends, broken.failure.raw) for name, text in raw.items()}
        )
    return replace(result, raw={**report.raw, **result.raw})


def _offset(server: tuple[float, float], load: tuple[float, float]) -> ClockOffset:
    return ClockOffset(offset_s=round(load[0] - server[0], 6), uncertainty_s=round(load[1] + server[1], 6))
