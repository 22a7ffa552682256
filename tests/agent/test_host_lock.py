from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent import lock
from agent.lock import HostLock
from agent.problems import TrialProblem

ME = {"run_id": "20261123-051233-quick", "trial_id": "lab-2core.b01.004"}


def test_the_second_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with HostLock(run_dir, ME):
        assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
        said = lock.holder(run_dir)
        assert said is not None and said["pid"] == os.getpid()
        with pytest.raises(TrialProblem) as caught, HostLock(run_dir, ME, patience_s=0.0):
            pass
        assert caught.value.kind == "busy"
        assert "lab-2core.b01.004" in caught.value.reason
        assert "20261123-051233-quick" in caught.value.reason
        assert str(os.getpid()) in caught.value.reason
    assert lock.holder(run_dir) is None


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    code = "import os,signal,sys; from pathlib import Path; from agent.lock import HostLock\n"
    code += "with HostLock(Path(sys.argv[1]), {}): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / "lock").read_text() != ""
    assert lock.holder(tmp_path) is None
    with HostLock(tmp_path, ME, patience_s=0.0):
        pass


def test_no_run_directory_means_no_holder(tmp_path: Path) -> None:
    assert lock.holder(tmp_path / "run") is None
