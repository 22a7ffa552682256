"""Drives handler processes over FastCGI: one thread, one epoll loop, every answer checked.

The load is a closed loop: as soon as a request is answered the next one is sent in its place. Requests that
can be sent at the same moment on a connection go out in one write, their records interleaved.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import socket
import time
from array import array
from typing import Dict, List, Optional

from agent.wire.address import Address, parse_address
from agent.wire.answers import ConnectionFault, Conversation, Verdicts
from agent.wire.protocol import PreparedRequests
from agent.wire.results import Evidence, WireLoad, WireResult, latency_summary_ms

_RECEIVE_BYTES = 64 * 1024
_QUEUE_FULL_WAIT_S = 0.001
_REFUSED_WAIT_S = 0.02
_WATCH_EVERY_S = 0.1
_NS = 1_000_000_000
_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_READABLE = select.EPOLLIN
_WRITABLE = select.EPOLLIN | select.EPOLLOUT
_NOT_ONLY_WRITABLE = ~select.EPOLLOUT


class _Lane:
    """A place for one connection at a time, always to the same address: so the spread is even."""

    def __init__(self, address_index: int, address: Address, verdicts: Verdicts, ids: int) -> None:
        self.address_index = address_index
        self.address = address
        self.connection: Optional[socket.SocketType] = None
        self.conversation = Conversation(verdicts)
        self.begun_ns = [0] * (ids + 1)
        self.outbox = b""
        self.sent = 0
        self.answered_ns = 0
        self.retry_at_ns = 0


class _Measured:
    """What stood at the end of the load's time, before the last answers came in."""

    def __init__(self, duration_ns: int, complete: int, verdicts: Verdicts) -> None:
        self.duration_ns = duration_ns
        self.complete = complete
        self.ok = verdicts.ok
        self.body_bytes = verdicts.body_bytes


class _Drive:
    """One load while it runs."""

    def __init__(self, load: WireLoad) -> None:
        self._load = load
        self._keep_conn = load.keep_conn
        self._requests = PreparedRequests(load.request, load.in_flight, load.keep_conn)
        self._verdicts = Verdicts(load.expectation)
        self._epoll = select.epoll()
        self._by_fd: Dict[int, _Lane] = {}
        addresses = [parse_address(text) for text in load.addresses]
        spread = [index % len(addresses) for index in range(load.connections)]
        self._lanes = [_Lane(index, addresses[index], self._verdicts, load.in_flight) for index in spread]
        self._waiting: List[_Lane] = []
        self._all_ids = list(range(1, load.in_flight + 1))
        self._left = load.count if load.count is not None else -1
        self._running = True
        self._gave_up = False
        self._outstanding = 0
        self._latencies_ns = array("q")
        self._windows: List[int] = []
        self._sent_per_address = [0] * len(addresses)
        self._connections_opened = 0
        self._most_requests_on_a_connection = 0
        self._peak_in_flight = 0
        self._closed_by_responder = 0
        self._connect_retries = 0

    # -- sending

    def _begin(self, lane: _Lane, ids: List[int]) -> None:
        """Open requests under these ids, as far as the load asks for more, and send what can be sent now."""
        if not self._running:
            return
        if self._left >= 0:
            ids = ids[: self._left]
            self._left -= len(ids)
            if not ids:
                return
        now = time.perf_counter_ns()
        begun_ns = lane.begun_ns
        for request_id in ids:
            begun_ns[request_id] = now
        self._outstanding = outstanding = self._outstanding + len(ids)
        if outstanding > self._peak_in_flight:  # noqa: PLR1730 - mostly nothing is to be stored
            self._peak_in_flight = outstanding
        self._sent_per_address[lane.address_index] += len(ids)
        self._queue(lane, ids)

    def _queue(self, lane: _Lane, ids: List[int]) -> None:
        conversation = lane.conversation
        conversation.begin(ids)
        lane.sent += len(ids)
        data = self._requests.bytes_for(ids)
        if lane.outbox:
            lane.outbox += data
        elif lane.connection is None:
            self._connect(lane, data)
        else:
            self._send(lane, lane.connection, data)

    def _connect(self, lane: _Lane, data: bytes) -> None:
        address = lane.address
        # The plain type: socket.socket, which inherits from it, takes twice as long to make and to close.
        connection = socket.SocketType(address.family, _STREAM)
        status = connection.connect_ex(address.target)
        if status in (0, errno.EINPROGRESS):
            if address.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lane.connection = connection
            descriptor = connection.fileno()
            self._by_fd[descriptor] = lane
            self._connections_opened += 1
            self._epoll.register(descriptor, _WRITABLE if status else _READABLE)
            if status:
                lane.outbox = data
            else:
                self._send(lane, connection, data)
            return
        connection.close()
        lane.outbox = data
        if status == errno.EAGAIN:
            self._connect_retries += 1
            self._wait(lane, _QUEUE_FULL_WAIT_S)
        else:
            self._refused(lane, status)

    def _refused(self, lane: _Lane, status: int) -> None:
        self._abandon(lane, "refused", f"{lane.address}: {os.strerror(status)}")
        self._wait(lane, _REFUSED_WAIT_S)

    def _wait(self, lane: _Lane, wait_s: float) -> None:
        lane.retry_at_ns = time.perf_counter_ns() + int(wait_s * _NS)
        self._waiting.append(lane)

    def _send(self, lane: _Lane, connection: socket.SocketType, data: bytes) -> None:
        """Send as much as fits now; the rest goes when epoll says so."""
        try:
            done = connection.send(data)
        except BlockingIOError:
            done = 0
        except ConnectionRefusedError:
            self._refused(lane, errno.ECONNREFUSED)
            return
        except OSError:
            # The other end is gone. What it said before is still to be read, then the end is an event.
            lane.outbox = b""
            return
        if done < len(data):
            lane.outbox = data[done:]
            self._epoll.modify(connection.fileno(), _WRITABLE)

    def _writable(self, lane: _Lane, connection: socket.SocketType) -> None:
        self._epoll.modify(connection.fileno(), _READABLE)
        if lane.outbox:
            data, lane.outbox = lane.outbox, b""
            self._send(lane, connection, data)

    # -- receiving

    def _readable(self, lane: _Lane, connection: socket.SocketType) -> None:
        conversation = lane.conversation
        try:
            data = connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            self._refused(lane, errno.ECONNREFUSED)
            return
        except OSError:
            data = b""
        if data == self._verdicts.burst and conversation.awaits_burst():
            self._answered_as_before(lane, connection)
        elif data:
            self._received(lane, connection, data)
        else:
            self._ended_by_responder(lane)

    def _answered_as_before(self, lane: _Lane, connection: socket.SocketType) -> None:
        """Take answers to all open requests, the same bytes as last time: the usual case, in one go."""
        verdicts, begun_ns = self._verdicts, lane.begun_ns
        ids = verdicts.burst_ids
        count = len(ids)
        verdicts.judge_equal(count)
        now = time.perf_counter_ns()
        if count == 1:
            self._latencies_ns.append(now - begun_ns[ids[0]])
        else:
            self._latencies_ns.extend([now - begun_ns[request_id] for request_id in ids])
        lane.answered_ns = now
        if self._keep_conn and self._running and self._left < 0 and not lane.outbox:
            # The next requests take the places of the last: what is open, and how many, stays the same.
            for request_id in ids:
                begun_ns[request_id] = now
            self._sent_per_address[lane.address_index] += count
            lane.sent += count
            self._send(lane, connection, self._requests.bytes_for(ids))
            return
        lane.conversation.open.clear()
        self._outstanding -= count
        if not self._keep_conn:
            self._close(lane, connection)
        self._begin(lane, list(ids))

    def _received(self, lane: _Lane, connection: socket.SocketType, data: bytes) -> None:
        """Take whatever has come."""
        try:
            ended = lane.conversation.take(data)
        except ConnectionFault as fault:
            self._answered(lane, fault.ended)
            self._restart(lane, fault.name, str(fault))
            return
        if ended:
            self._answered(lane, ended)
            if not self._keep_conn:
                self._close(lane, connection)
            self._begin(lane, ended)

    def _answered(self, lane: _Lane, ended: List[int]) -> None:
        now = time.perf_counter_ns()
        begun_ns = lane.begun_ns
        for request_id in ended:
            self._latencies_ns.append(now - begun_ns[request_id])
        self._outstanding -= len(ended)
        lane.answered_ns = now

    def _ended_by_responder(self, lane: _Lane) -> None:
        """Take the end of a connection: right between two requests, wrong during one."""
        conversation = lane.conversation
        found = conversation.ended()
        if found is None:
            self._closed_by_responder += self._running
            self._drop(lane)
            self._begin(lane, self._all_ids)
        elif lane.answered_ns and conversation.untouched and self._begun_since_last_answer(lane):
            self._closed_by_responder += 1
            ids = list(conversation.open)
            self._drop(lane)
            self._queue(lane, ids)
        else:
            self._restart(lane, *found)

    def _begun_since_last_answer(self, lane: _Lane) -> bool:
        """Tell whether the responder may have closed before it could know of any open request."""
        return min(lane.begun_ns[request_id] for request_id in lane.conversation.open) >= lane.answered_ns

    # -- the life of a connection

    def _restart(self, lane: _Lane, fault: str, detail: str) -> None:
        """Give a connection up with its open requests, and begin anew on another one."""
        self._abandon(lane, fault, detail)
        self._begin(lane, self._all_ids)

    def _abandon(self, lane: _Lane, fault: str, detail: str) -> None:
        """Count every open request of the lane as failed (one when none is open) and close it."""
        lost = len(lane.conversation.open)
        self._outstanding -= lost
        self._verdicts.fault(fault, detail, max(lost, 1))
        self._drop(lane)

    def _close(self, lane: _Lane, connection: socket.SocketType) -> None:
        # Closing takes the descriptor out of epoll: nobody else holds it. Its entry goes with its next owner.
        connection.close()
        lane.connection = None
        if lane.sent > self._most_requests_on_a_connection:  # noqa: PLR1730 - mostly nothing is to be stored
            self._most_requests_on_a_connection = lane.sent
        lane.sent = 0
        lane.answered_ns = 0

    def _drop(self, lane: _Lane) -> None:
        """Close the lane's connection, if any, and forget what was open on it."""
        if lane.connection is not None:
            self._close(lane, lane.connection)
        lane.conversation = Conversation(self._verdicts)
        lane.outbox = b""
        lane.sent = 0

    def _retry(self) -> None:
        now = time.perf_counter_ns()
        due = [lane for lane in self._waiting if lane.retry_at_ns <= now]
        self._waiting = [lane for lane in self._waiting if lane.retry_at_ns > now]
        for lane in due:
            if lane.conversation.open:
                data, lane.outbox = lane.outbox, b""
                self._connect(lane, data)
            else:
                self._begin(lane, self._all_ids)

    def _give_up_unanswered(self, before_ns: int) -> None:
        """Abandon the connections whose oldest request was begun before this time and is still open."""
        for lane in self._lanes:
            oldest = next(iter(lane.conversation.open), None)
            if oldest is not None and lane.begun_ns[oldest] < before_ns:
                self._waiting = [waiting for waiting in self._waiting if waiting is not lane]
                waited_s = (time.perf_counter_ns() - lane.begun_ns[oldest]) / _NS
                self._restart(lane, "unanswered", f"{lane.address}: request id {oldest}, {waited_s:.2f} s")

    # -- the loop

    def run(self) -> WireResult:
        """Run the load to its end and return what came of it."""
        cpu_before = _cpu_s()
        collecting = gc.isenabled()
        gc.disable()
        try:
            started_ns = time.perf_counter_ns()
            for lane in self._lanes:
                self._begin(lane, self._all_ids)
            self._loop(started_ns)
            measured = _Measured(time.perf_counter_ns() - started_ns, len(self._latencies_ns), self._verdicts)
            self._drain()
            self._settle()
        finally:
            if collecting:
                gc.enable()
            for lane in self._lanes:
                self._drop(lane)
            self._epoll.close()
        return self._result(measured, _cpu_s() - cpu_before)

    def _turn(self, timeout_s: float) -> None:
        """Wait for events once and serve them."""
        by_fd = self._by_fd
        for descriptor, events in self._epoll.poll(_QUEUE_FULL_WAIT_S if self._waiting else timeout_s):
            lane = by_fd[descriptor]
            if events & select.EPOLLOUT and lane.connection is not None:
                self._writable(lane, lane.connection)
            if events & _NOT_ONLY_WRITABLE and lane.connection is not None:
                self._readable(lane, lane.connection)
        if self._waiting:
            self._retry()

    def _loop(self, started_ns: int) -> None:
        """Keep the load up for its time, and note the answers of each whole second."""
        ends_ns = started_ns + int(self._load.duration_s * _NS)
        patience_ns = int(self._load.answer_timeout_s * _NS)
        next_window_ns, next_watch_ns = started_ns + _NS, started_ns
        counted = 0
        now = started_ns
        while now < ends_ns and self._running and (self._outstanding or self._left or self._waiting):
            self._turn(min(_WATCH_EVERY_S, (ends_ns - now) / _NS))
            now = time.perf_counter_ns()
            if self._verdicts.failed >= self._load.faults_allowed:
                self._gave_up = True
                break
            if now >= next_window_ns:
                self._windows.append(len(self._latencies_ns) - counted)
                counted = len(self._latencies_ns)
                next_window_ns += _NS
            if now >= next_watch_ns:
                next_watch_ns = now + int(_WATCH_EVERY_S * _NS)
                self._give_up_unanswered(now - patience_ns)
        self._running = False

    def _drain(self) -> None:
        """Take the answers that are still due, as long as that may last."""
        ends_ns = time.perf_counter_ns() + int(self._load.answer_timeout_s * _NS)
        while self._outstanding and time.perf_counter_ns() < ends_ns and not self._gave_up:
            self._turn(_WATCH_EVERY_S / 2)
        if not self._gave_up:
            self._give_up_unanswered(time.perf_counter_ns() + 1)

    def _settle(self) -> None:
        """Look once more at the kept connections: whatever is there now, nobody asked for."""
        for lane in self._lanes:
            if lane.connection is None or lane.conversation.open:
                continue
            try:
                data = lane.connection.recv(_RECEIVE_BYTES)
                if data:
                    lane.conversation.take(data)
            except (BlockingIOError, ConnectionResetError):
                continue
            except ConnectionFault as fault:
                self._verdicts.fault(fault.name, str(fault))

    def _result(self, measured: _Measured, cpu_s: float) -> WireResult:
        verdicts, opened, sent = self._verdicts, self._connections_opened, sum(self._sent_per_address)
        measured_s, complete = measured.duration_ns / _NS, measured.complete
        return WireResult(
            measured_s=measured_s,
            sent=sent,
            complete=complete,
            ok=measured.ok,
            failed=verdicts.failed,
            drained=len(self._latencies_ns) - complete,
            goodput_rps=measured.ok / measured_s,
            body_bytes=measured.body_bytes,
            stderr_bytes=verdicts.stderr_bytes,
            latency_ms=latency_summary_ms(self._latencies_ns[:complete]),
            windows=tuple(self._windows),
            faults=dict(verdicts.faults),
            examples=tuple(verdicts.examples),
            gave_up=self._gave_up,
            client_cpu_s=cpu_s,
            evidence=Evidence(
                connections_opened=opened,
                requests_per_connection_mean=sent / opened if opened else 0.0,
                requests_per_connection_max=self._most_requests_on_a_connection,
                highest_id=verdicts.highest_id,
                peak_ids_per_connection=verdicts.peak_ids,
                peak_in_flight=self._peak_in_flight,
                interleaved_answers=verdicts.interleaved,
                out_of_order_answers=verdicts.out_of_order,
                closed_by_responder=self._closed_by_responder,
                connect_retries=self._connect_retries,
                requests_per_address=tuple(self._sent_per_address),
            ),
        )


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def drive(load: WireLoad) -> WireResult:
    """Run a load and return what came of it.

    Wrong answers are counted in the result, never raised; the call is over after `duration_s` plus
    `answer_timeout_s` at the latest (and the time of one turn of the loop).

    Raises
    ------
    AddressError
        When an address cannot be read.
    """
    return _Drive(load).run()
