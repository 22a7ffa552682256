"""How long the report of a large run takes, and how much memory: `python benchmarks/report_speed.py`.

The run is made up by the generator of the tests, its records as long as those of a real run; only the
report's own speed is measured.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "analysis"))

from synthetic_runs import Recipe, write_run  # noqa: E402

GATE = {
    "passed": True,
    "value": 0.0,
    "limit": 0.01,
    "unit": "share of requests",
    "detail": "the handlers served 4166 requests, the client received 4149; 1 % may differ",
}


def large_recipe(trials: int) -> Recipe:
    """Return a recipe of about this many trials: ten hosts, five handlers, twenty counts."""
    hosts = {f"host-{number:02d}": 2 if number % 2 else 4 for number in range(1, 11)}
    handlers = ("threaded", "multiplexed", "serial", "prefork", "asyncio")
    per_block = len(hosts) * (len(handlers) * 20 + 5)
    return Recipe(
        hosts=hosts, handlers=handlers, processes=tuple(range(1, 21)), blocks=-(-trials // per_block)
    )


def lengthen(journal: Path) -> None:
    """Give each record the gates and windows of a real one, which the tests' generator leaves out."""
    gates = ",".join(json.dumps(GATE | {"name": f"gate_{i}"}, separators=(",", ":")) for i in range(14))
    windows = ",".join(f'{{"t_s":{0.05 * i:.6f},"requests":{200 + i}}}' for i in range(1, 21))
    longer = journal.with_suffix(".longer")
    with journal.open("rb") as source, longer.open("wb") as target:
        for line in source:
            gated = line.replace(b'"gates":[', f'"gates":[{gates},'.encode(), 1)
            target.write(gated.replace(b'"windows":[]', f'"windows":[{windows}]'.encode(), 1))
    longer.replace(journal)


PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 0.5


def adopt_orphans() -> None:
    """Make processes of the report that outlive it children of this one: else their time is not counted."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def report(run: Path) -> tuple[float, int]:
    """Report a run; return the seconds it took and the most memory (bytes) all its processes had at once."""
    started = time.monotonic()
    command = [sys.executable, "-m", "analysis.report", str(run)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as child:
        most_bytes = 0
        while child.poll() is None:
            most_bytes = max(most_bytes, sum(map(memory_bytes, descendants(os.getpid()))))
            time.sleep(SAMPLE_S)
    wall_s = time.monotonic() - started
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {child.returncode}")
    while descendants(os.getpid()):
        os.wait()
    return wall_s, most_bytes


def descendants(pid: int) -> list[int]:
    """Return the children of a process, and theirs."""
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*children, *(each for child in children for each in descendants(child))]


def memory_bytes(pid: int) -> int:
    """Return the memory of a process; what it shares with others counts by its share."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main() -> None:
    """Write a large run, report it in a process of its own, print seconds and megabytes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    arguments = parser.parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder), large_recipe(arguments.trials))
        lengthen(run / "journal.jsonl")
        size = (run / "journal.jsonl").stat().st_size
        attempts = sum(1 for _ in (run / "journal.jsonl").open("rb"))
        wall_s, most_bytes = report(run)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        page = (run / "report" / "index.html").stat().st_size
    cpu_s = used.ru_utime + used.ru_stime
    print(f"attempts {attempts}, journal {size / 1e6:.0f} MB, page {page / 1e6:.1f} MB")
    print(
        f"wall {wall_s:.1f} s, CPU {cpu_s:.1f} s, at most {most_bytes / 1e6:.0f} MB in all processes at once,"
        f" {1024 * used.ru_maxrss / 1e6:.0f} MB in the largest"
    )


if __name__ == "__main__":
    main()
