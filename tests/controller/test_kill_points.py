"""The controller is killed with SIGKILL wherever its journal can be cut, and resumed until it is done."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller import journal as journal_module
from controller.catalogue import load_catalogue
from controller.experiment import read_experiment
from controller.journal import attempts, read_journal
from controller.runs import resume_run, start_run

WORKERS = 3
CUTS: dict[str, Callable[[int], int]] = {
    "before the record": lambda length: 0,
    "after one byte": lambda length: 1,
    "after a quarter": lambda length: length // 4,
    "in the middle": lambda length: length // 2,
    "after three quarters": lambda length: 3 * length // 4,
    "before the line end": lambda length: length - 1,
    "after the record": lambda length: length,
}


def fork(act: Callable[[], object]) -> int:
    """Do something in a forked process; return its pid."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def in_child(act: Callable[[], object]) -> int:
    """Do something in a forked process; return its wait status."""
    return os.waitpid(fork(act), 0)[1]


def die_at(record: int, cut: Callable[[int], int]) -> None:
    """Die by SIGKILL at the n-th record of this process, when `cut(length)` bytes of it are written."""
    real, seen = os.pwrite, Counter[str]()

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        if Path(f"/proc/self/fd/{descriptor}").resolve().name == "journal.jsonl":
            seen["records"] += 1
            if seen["records"] == record:
                real(descriptor, data[: cut(len(data))], offset)
                os.kill(os.getpid(), signal.SIGKILL)
        return real(descriptor, data, offset)

    journal_module.os.pwrite = pwrite  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork, with pytest's threads at rest
def test_after_a_kill_at_any_point_every_trial_ends_with_exactly_one_valid_record(fleet: Any) -> None:
    host = fleet.add("web1")
    host.behave(trials={"multiplexedx1": ["invalid", "ok"]})
    path = fleet.experiment(blocks=1, processes="1", design=", sentinel: true, attempts: 3")
    experiment = read_experiment(path, load_catalogue())

    def start() -> None:
        start_run(fleet.workplace()[0], experiment, None, "fcgi-sweep run standin.yml")

    def resume() -> None:
        resume_run(fleet.workplace()[0], None, False)

    assert in_child(start) == 0
    (reference,) = fleet.results.iterdir()
    lines = (reference / "journal.jsonl").read_bytes().splitlines(keepends=True)
    points = [(record, name) for record in range(1, len(lines) + 1) for name in CUTS]
    assert len(points) >= 50

    def kill_and_resume(number: int) -> bool:
        """Return whether the first resume was killed, too: with one record missing there is no second."""
        record, name = points[number]
        fleet.results_name = f"results-{number}"

        def start_and_die() -> None:
            die_at(record, CUTS[name])
            start()

        def resume_and_die() -> None:
            die_at(2, CUTS[name])
            resume()

        assert killed(in_child(start_and_die)), (record, name)
        twice = killed(in_child(resume_and_die))
        assert in_child(resume) == 0, (record, name)
        check(next(fleet.results.iterdir()))
        return twice

    def work(worker: int) -> None:
        found = [kill_and_resume(number) for number in range(worker, len(points), WORKERS)]
        (fleet.root / f"worker-{worker}.json").write_text(json.dumps(found))

    # mostly they wait for processes to start and to end
    workers = [fork(lambda worker=worker: work(worker)) for worker in range(WORKERS)]  # type: ignore[misc]
    assert [os.waitpid(pid, 0)[1] for pid in workers] == [0] * WORKERS
    found = [json.loads(path.read_text()) for path in fleet.root.glob("worker-*.json")]
    assert sum(map(len, found)) == len(points)
    twice = sum(map(sum, found))
    assert twice >= 50
    print(f"{len(points)} kill points, at {twice} of them a second kill during the resume", file=sys.stderr)


def killed(status: int) -> bool:
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def check(run: Path) -> None:
    content = read_journal(run / "journal.jsonl")
    assert content.tail == b""
    schedule = [trial["trial"] for trial in json.loads((run / "schedule.json").read_text())["trials"]]
    valid = Counter(r["trial"] for r in attempts(content.records) if r["status"] == "valid")
    assert valid == Counter(schedule)
    tried = [(r["trial"], r["attempt"]) for r in attempts(content.records)]
    assert len(tried) == len(set(tried))
    for attempt in attempts(content.records):
        assert (run / attempt["raw"] / "lighttpd.conf").exists()
