"""What the handlers' counters cost in the hot path: requests served with and without them, interleaved.

A threaded handler answers on a socket pair, and only its processor time counts, so that a busy machine does
not show. Behind lighttpd a request costs two to four times as much in all, and the counting no more. It
prints the ratio over many short rounds, and what the calls cost by themselves, with the caches to themselves.
"""

from __future__ import annotations

import argparse
import math
import mmap
import socket
import statistics
import time

from agent.wire import protocol
from fcgi_handlers import counters, registry
from fcgi_handlers.flup_server import ThreadedServer


class NoCounters(counters.Counters):
    """The same interface, and nothing behind it."""

    def enter(self, request_id: int = 1, open_ids: int = 1, opens_connection: bool = True) -> None:
        """Count nothing."""

    def leave(self, done: int) -> None:
        """Count nothing."""


def serve(server: ThreadedServer, request: bytes, requests: int) -> float:
    """Return the processor seconds of `requests` requests, each on a connection of its own."""
    began_s = time.process_time()
    for _ in range(requests):
        client, connection = socket.socketpair()
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        server._jobClass(connection, None, server, None).run()
        client.close()
    return time.process_time() - began_s


def bare_cost_s(counted: counters.Counters, requests: int) -> float:
    """Return the processor seconds that counting `requests` requests takes by itself."""
    began_s = time.process_time()
    for _ in range(requests):
        counted.enter(1, 1, True)
        counted.leave(1)
    return time.process_time() - began_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--requests", type=int, default=100)
    arguments = parser.parse_args()
    hello = registry.load_workload("hello")
    request = protocol.PreparedRequests(protocol.web_request("/hello"), ids=1, keep_conn=False).bytes_for([1])
    counted = counters.Counters(mmap.mmap(-1, counters.FILE_BYTES))
    uncounted = NoCounters(bytearray(counters.FILE_BYTES))
    servers = [ThreadedServer(hello, each, multiplexed=False) for each in (counted, uncounted)]
    ratios, with_s, without_s = [], [], []
    for number in range(arguments.rounds + 1):
        order = (0, 1) if number % 2 else (1, 0)
        took_s = {which: serve(servers[which], request, arguments.requests) for which in order}
        if number:  # the first round warms up
            ratios.append(took_s[0] / took_s[1])
            with_s.append(took_s[0])
            without_s.append(took_s[1])
    per_request_us = 1e6 / arguments.requests
    # the order statistics that hold the median in 95 of 100 sets of rounds
    middle, apart = len(ratios) / 2, 0.98 * math.sqrt(len(ratios))
    low, high = (sorted(ratios)[max(0, min(len(ratios) - 1, round(middle + d)))] for d in (-apart, apart))
    print(
        f"with counters {statistics.median(with_s) * per_request_us:.1f} us,"
        f" without {statistics.median(without_s) * per_request_us:.1f} us a request"
    )
    print(
        f"ratio with/without: {statistics.median(ratios):.4f}, 95 % interval {low:.4f} to {high:.4f},"
        f" {len(ratios)} rounds"
    )
    bare_us = bare_cost_s(counted, 100_000) * 10
    share = bare_us / (statistics.median(without_s) * per_request_us)
    print(f"counting alone {bare_us:.2f} us a request: {share:.2%}")


if __name__ == "__main__":
    main()
