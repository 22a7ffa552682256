"""Command line of the agent: `facts`, `trial`, `load`, `prove`, `clean`; those of `agent.wire` besides.

It writes JSON lines on stdout; `trial`, `load` and `prove` read their request, one JSON line, from stdin.
Each command imports what it needs and no more: the start of the agent is part of a trial's overhead.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from agent.records import Record

USAGE = (
    "usage: python3 agent.pyz facts | trial | load | prove | clean  [--prefix DIRECTORY]"
    "  | wire-probe … | wire-load …"
)


def default_prefix() -> Path:
    """Return the directory of the archive that runs, or ~/.fcgi-sweep when run from a source tree."""
    home = Path(__file__).resolve().parent.parent
    return home.parent if home.is_file() else Path.home() / ".fcgi-sweep"


def say(record: Record) -> None:
    """Write one JSON line, in ASCII whatever the locale; a reader that has gone away is no reason to fail."""
    try:
        print(json.dumps(record.to_json()), flush=True)
    except BrokenPipeError:
        # The interpreter would try once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: list[str]) -> int:
    """Run one command. Return 0 for success, 1 for a failure that was reported, 2 for bad arguments."""
    if arguments[:1] in (["wire-probe"], ["wire-load"]):
        return _wire(arguments[0], arguments[1:])
    command, rest = arguments[:1], arguments[1:]
    prefix = default_prefix()
    if rest[:1] == ["--prefix"] and len(rest) > 1:
        prefix, rest = Path(rest[1]).expanduser().resolve(), rest[2:]
    if command == ["facts"]:
        return _facts(prefix, rest)
    if command == ["clean"] and not rest:
        return _clean(prefix)
    sessions = {"trial": _trial, "load": _load, "prove": _prove}
    if command and command[0] in sessions and not rest:
        return sessions[command[0]]()
    print(USAGE, file=sys.stderr)
    return 2


def _facts(prefix: Path, workloads: list[str]) -> int:
    from agent import facts

    say(facts.gather(prefix, workloads))
    return 0


def _clean(prefix: Path) -> int:
    from agent import cleaning
    from agent.problems import TrialProblem
    from agent.records import Failure

    try:
        say(cleaning.clean(prefix))
    except TrialProblem as problem:
        say(Failure(trial_id="clean", attempt=1, kind=problem.kind, reason=problem.reason))
        return 1
    return 0


def _trial() -> int:
    from agent import session, trials

    return session.run(say, trials.perform)


def _load() -> int:
    from agent import load_run, session

    return session.run(say, load_run.perform)


def _prove() -> int:
    from agent import proof, session

    return session.run(say, proof.perform)


def _wire(command: str, arguments: list[str]) -> int:
    from agent.wire.command import run_load, run_probe

    run = run_probe if command == "wire-probe" else run_load
    return run(arguments, sys.stdout, sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
