"""Orders from the controller, and what an agent makes of them."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agent import dialogue
from agent.dialogue import Order, RemoteLoad, Report, Time, Warm, await_order
from agent.lease import Lease
from agent.load.report import LoadReport
from agent.problems import TrialProblem
from agent.records import (
    ClockOffset,
    GroupCounters,
    LatencyMs,
    LoadHost,
    Record,
    RecordError,
    SystemCounters,
    Timings,
)

SYSTEM = SystemCounters(
    window_s=5.0, steal_share=0.0, idle_share=0.5, listen_drops=0, listen_overflows=0, passive_opens=0,
    time_wait=0, ctx_total=1, load1=0.1,
)  # fmt: skip
REPORT = LoadReport(
    measured_s=5.0, complete=100, failed=0, non_2xx=0, write_errors=0, length_failures=0,
    mean_ms=(1.0, 2.0), latency_ms=LatencyMs(p50=1.5),
)  # fmt: skip
LOAD = RemoteLoad(REPORT, 5, GroupCounters(), LoadHost("gen", SYSTEM, Timings(), ClockOffset(0.25, 0.001)))


class Line:
    """The controller's end of an agent's standard input."""

    def __init__(self, lease: Lease, write: int) -> None:
        self.lease = lease
        self._write = write
        self.said: list[Record] = []

    def write(self, *orders: Any) -> None:
        text = "".join(json.dumps(getattr(o, "to_json", lambda o=o: o)()) + "\n" for o in orders)
        os.write(self._write, text.encode())

    def hang_up(self) -> None:
        write, self._write = self._write, -1
        os.close(write)

    def await_order(self, expected: str, timeout_s: float = 5.0) -> Order | None:
        return await_order(self.lease, self.said.append, expected, timeout_s)


@pytest.fixture
def line() -> Iterator[Line]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    read, write = os.pipe()
    found = Line(Lease(read), write)
    yield found
    os.close(read)
    if found._write >= 0:
        found.hang_up()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_the_load_host_says_survives_the_journey() -> None:
    order = Order("end", LOAD)
    assert Order.from_json(json.loads(json.dumps(order.to_json()))) == order
    report = Report("t", 1, REPORT, 5, GroupCounters(), SYSTEM, Timings(), raw={"load.txt": "x"})
    assert dialogue.event_from_json(json.loads(json.dumps(report.to_json()))) == report
    assert dialogue.event_from_json({"event": "warm"}) == Warm()
    with pytest.raises(RecordError, match="event: expected one of"):
        dialogue.event_from_json({"event": "lukewarm"})


def test_an_expected_order_is_taken_and_the_next_one_stays(line: Line) -> None:
    line.write(Order("begin"), Order("end", LOAD))
    assert line.await_order("begin") == Order("begin")
    assert line.await_order("end") == Order("end", LOAD)


def test_no_order_in_time_is_none(line: Line) -> None:
    began = time.monotonic()
    assert line.await_order("begin", 0.05) is None
    assert time.monotonic() - began >= 0.05


def test_a_question_for_the_clock_is_answered_at_once_and_changes_nothing(line: Line) -> None:
    line.write(Order("clock"), Order("clock"), Order("go"))
    assert line.await_order("go") == Order("go")
    assert [type(each) for each in line.said] == [Time, Time]
    answer = line.said[0]
    assert isinstance(answer, Time)
    assert abs(answer.wall_s - time.time()) < 5


def test_another_order_than_the_due_one_ends_the_trial(line: Line) -> None:
    line.write(Order("end", LOAD))
    with pytest.raises(TrialProblem, match="the order 'end' came where 'begin' was due"):
        line.await_order("begin")


@pytest.mark.parametrize("nonsense", [{"do": 1}, {"go": "do"}, [], {"do": "end", "load": {"asked_s": 1}}])
def test_an_order_that_is_none_ends_the_trial(line: Line, nonsense: Any) -> None:
    line.write(nonsense)
    with pytest.raises(TrialProblem, match="an order that cannot be understood"):
        line.await_order("begin")


def test_the_lease_ends_with_the_line_while_an_order_is_awaited(line: Line) -> None:
    later = threading.Timer(0.05, line.hang_up)
    later.start()
    with pytest.raises(TrialProblem, match="the controller went away"):
        line.await_order("begin")
    later.join()


def test_an_order_that_comes_during_another_wait_is_kept(line: Line) -> None:
    line.write(Order("begin"))
    assert line.lease.wait([], 0.05) == []
    assert line.await_order("begin") == Order("begin")


def test_the_deadline_holds_while_an_order_is_awaited(line: Line) -> None:
    line.lease.set_deadline(0.05)
    with pytest.raises(TrialProblem, match=r"deadline of 0\.05 s"):
        line.await_order("begin")
