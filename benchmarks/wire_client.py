"""Measure whether the FastCGI client is fast enough to measure handlers, or would measure itself.

The client runs on one CPU, the responder on another. In each round, for each regime, it drives the cheapest
responder there is (wire_responder.c) and right after that every handler under the same load: one pair each.
Two quotients are shown. That of the rates depends on who waits for whom and on the machine's neighbours.
That of the processor time per request (the handler's, to the client's on the cheapest responder) says how
many times the rate of a handler on a core of its own the client reaches on one core; at least 5 is wanted.

usage: python benchmarks/wire_client.py [--rounds N] [--seconds S] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.wire.client import drive
from agent.wire.protocol import web_request
from agent.wire.results import Expectation, WireLoad
from fcgi_handlers import registry
from fcgi_handlers.workloads import hello

HERE = Path(__file__).resolve().parent
WANTED_RATIO = 5.0
TRIVIAL = "wire_responder.c"
LIMIT = "limit"
HANDLERS = [name for name in registry.model_names() if name != LIMIT]
"""Those in Python."""
REGIMES = {
    "fresh": {"connections": 16},
    "kept": {"connections": 4, "keep_conn": True},
    "interleaved": {"connections": 1, "in_flight": 8, "keep_conn": True},
    "4 interleaved": {"connections": 4, "in_flight": 8, "keep_conn": True},
}
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """One load on one responder.

    Attributes
    ----------
    regime, responder : str
        What was loaded, and how.
    rate_rps : float or None
        Right answers per second; None when an answer was wrong (then the responder cannot do this).
    client_us, responder_us : float or None
        Processor time per request of the client and of the responder.
    fault : str or None
        Why there is no rate.
    """

    regime: str
    responder: str
    rate_rps: float | None
    client_us: float | None
    responder_us: float | None
    fault: str | None


class Responders:
    """The responders, each on a socket of its own, all on the same CPU."""

    def __init__(self, directory: Path, cpu: int) -> None:
        self._directory = directory
        self._cpu = cpu
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        response = directory / "response"
        response.write_bytes(hello.RESPONSE)
        trivial = self._compile(HERE / "wire_responder.c")
        self._start(TRIVIAL, [trivial, self.address(TRIVIAL), str(response)])
        limit = self._compile(HERE.parent / "fcgi_handlers/native/limit.c", "-lfcgi")
        self._start(LIMIT, [limit, str(response)], listen=True)
        for model in HANDLERS:
            self._start(model, [sys.executable, "-m", "fcgi_handlers", model, "hello"], listen=True)

    def _compile(self, source: Path, *options: str) -> str:
        program = self._directory / source.stem
        subprocess.run(["cc", "-O2", "-o", str(program), str(source), *options], check=True)
        return str(program)

    def _start(self, name: str, command: list[str], listen: bool = False) -> None:
        command = ["taskset", "-c", str(self._cpu), *command]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "FCGI_SWEEP_CHILDREN": "1"}
        with socket.socket(socket.AF_UNIX) as listener:
            if listen:
                listener.bind(self.address(name))
                listener.listen(1024)
            self.processes[name] = subprocess.Popen(command, stdin=listener.fileno(), env=environment)

    def address(self, name: str) -> str:
        """Return the socket's path."""
        return str(self._directory / f"{name.partition('.')[0]}.sock")

    def cpu_s(self, name: str) -> float:
        """Return the processor time that a responder has used, its children's included."""
        pid = self.processes[name].pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(_cpu_s(each) for each in (pid, *children))

    def stop(self) -> None:
        """End all of them."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(timeout=20)


def _cpu_s(pid: int | str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def measure(responders: Responders, name: str, regime: str, seconds: float) -> Figure:
    """Drive one responder under one regime."""
    expectation = Expectation(len(hello.BODY), hashlib.sha256(hello.BODY).hexdigest())
    load = WireLoad(
        (responders.address(name),),
        web_request("/hello"),
        expectation,
        duration_s=seconds,
        answer_timeout_s=1.0,
        faults_allowed=20,
        **REGIMES[regime],  # type: ignore[arg-type]
    )
    before_s = responders.cpu_s(name)
    result = drive(load)
    if result.failed or not result.ok:
        fault = result.examples[0] if result.examples else "no answer"
        return Figure(regime, name, None, None, None, fault)
    answered = result.complete + result.drained
    used_s = responders.cpu_s(name) - before_s
    return Figure(
        regime, name, result.goodput_rps, result.client_cpu_s / answered * 1e6, used_s / answered * 1e6, None
    )


def run(rounds: int, seconds: float, tell: Callable[[str], None]) -> list[Figure]:
    """Return the figures of all rounds; the loads of a round follow each other at once."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("wire_client: this needs two CPUs, one for the client and one for the responder")
    figures = []
    with tempfile.TemporaryDirectory() as directory:
        responders = Responders(Path(directory), cpus[1])
        try:
            os.sched_setaffinity(0, cpus[:1])
            time.sleep(2)
            for number in range(rounds):
                tell(f"round {number + 1} of {rounds}")
                for regime in REGIMES:
                    figures += [measure(responders, name, regime, seconds) for name in responders.processes]
        finally:
            responders.stop()
    return figures


def _of(figures: list[Figure], regime: str, responder: str) -> list[Figure]:
    return [figure for figure in figures if (figure.regime, figure.responder) == (regime, responder)]


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):6.1f} ({min(values):.1f}-{max(values):.1f})"


def _line(best: list[Figure], mine: list[Figure]) -> tuple[str, float | None]:
    """Return a responder's line of the table, and how many times its rate the client reaches per core."""
    head = f"{mine[0].regime:14}{mine[0].responder:18}"
    fault = next((figure.fault for figure in mine if figure.fault), None)
    if fault is not None:
        return f"{head} cannot do this: {fault}", None
    rates = [figure.rate_rps or 0.0 for figure in mine]
    used_us = [figure.responder_us or 0.0 for figure in mine]
    by_rate = [(top.rate_rps or 0.0) / rate for top, rate in zip(best, rates, strict=True)]
    by_cpu = [used / (top.client_us or 1.0) for top, used in zip(best, used_us, strict=True)]
    client_us = statistics.median([figure.client_us or 0.0 for figure in mine])
    line = (
        f"{head} {statistics.median(rates):8.0f} {client_us:9.1f} {statistics.median(used_us):12.1f} "
        f"{_spread(by_rate):>20} {_spread(by_cpu):>20}"
    )
    return line, statistics.median(by_cpu)


def report(figures: list[Figure]) -> tuple[list[str], bool]:
    """Return the table's lines, and whether the client is fast enough in every regime."""
    lines = [
        f"{'regime':14}{'responder':18} {'req/s':>8} {'client us':>9} {'responder us':>12} "
        f"{'by rate (range)':>20} {'by cpu (range)':>20}"
    ]
    enough = True
    for regime in REGIMES:
        best = _of(figures, regime, TRIVIAL)
        ratios = []
        for name in (TRIVIAL, LIMIT, *HANDLERS):
            line, ratio = _line(best, _of(figures, regime, name))
            lines.append(line)
            if name in HANDLERS and ratio is not None:
                ratios.append(ratio)
        enough = enough and bool(ratios) and min(ratios) >= WANTED_RATIO
        if ratios:
            verdict = "enough" if min(ratios) >= WANTED_RATIO else "TOO SLOW"
            lines.append(
                f"{regime:14}per core the client does {min(ratios):.1f} times the fastest handler: {verdict}"
            )
    return lines, enough


def main() -> int:
    """Measure and print; return 1 when the client is too slow."""
    parser = argparse.ArgumentParser(
        description="Measure the FastCGI client against the handlers it is to measure."
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="per load (default: 1)")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    options = parser.parse_args()
    figures = run(options.rounds, options.seconds, lambda line: print(line, file=sys.stderr, flush=True))
    lines, enough = report(figures)
    print(json.dumps([asdict(figure) for figure in figures]) if options.json else "\n".join(lines))
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
