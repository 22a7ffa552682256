"""Take away what earlier trials left on a host."""

from __future__ import annotations

import shutil
from pathlib import Path

from agent import marked
from agent.lock import HostLock
from agent.records import Cleaned

_PATIENCE_S = 5.0


def remove_work_dirs(run_dir: Path) -> list[str]:
    """Remove the work directories of trials that have ended; the lock must be ours. Return their paths."""
    removed = []
    for path in sorted(run_dir.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            removed.append(str(path))
    return removed


def clean(prefix: Path) -> Cleaned:
    """Kill the orphans of `prefix` and remove their work directories.

    The lock file stays: to remove it would let two agents hold two locks of the same name. A lock whose
    holder has died is none; the kernel has given it back.

    Raises
    ------
    TrialProblem
        `busy`: a trial is being measured.
    """
    run_dir = prefix / "run"
    if not run_dir.is_dir():
        return Cleaned(killed=tuple(marked.kill(str(prefix))))
    with HostLock(run_dir, {"run_id": None, "trial_id": "clean"}, patience_s=_PATIENCE_S):
        killed = marked.kill(str(prefix))
        removed = remove_work_dirs(run_dir)
    return Cleaned(killed=tuple(killed), removed=tuple(removed))
