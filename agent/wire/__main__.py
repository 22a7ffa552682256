"""`python3 -m agent.wire probe ADDRESS …` and `… load DOCUMENT SECONDS`, without the rest of the agent."""

from __future__ import annotations

import sys

from agent.wire.command import run_load, run_probe

USAGE = "usage: python3 -m agent.wire probe ADDRESS [--help] | load DOCUMENT SECONDS"


def main() -> int:
    """Run one command; return the exit status."""
    if sys.argv[1:2] == ["probe"]:
        return run_probe(sys.argv[2:], sys.stdout, sys.stderr)
    if sys.argv[1:2] == ["load"]:
        return run_load(sys.argv[2:], sys.stdout, sys.stderr)
    sys.stderr.write(USAGE + "\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
