from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from lab import LabError, procfs
from lab.host import is_sshd


def test_a_process_tells_its_parent_state_and_environment() -> None:
    with subprocess.Popen(["sleep", "60"], env={"COLOUR": "blue"}) as child:
        try:
            deadline = time.monotonic() + 5
            seen = procfs.read(child.pid)
            while seen and seen.command != "sleep 60" and time.monotonic() < deadline:
                seen = procfs.read(child.pid)  # for a moment it still looks like its parent
            assert seen is not None
            assert (seen.parent, seen.uid, seen.command) == (os.getpid(), os.getuid(), "sleep 60")
            assert procfs.environment(child.pid) == {"COLOUR": "blue"}
            assert procfs.namespace_id(child.pid, "net") == procfs.namespace_id(os.getpid(), "net")
            assert child.pid in [process.pid for process in procfs.descendants([os.getpid()])]
        finally:
            child.kill()
    assert procfs.read(child.pid) is None
    assert procfs.environment(child.pid) == {}
    assert procfs.namespace_id(child.pid, "net") is None


def test_grandchildren_are_descendants() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"]) as child:
        try:
            deadline = time.monotonic() + 5
            while len(below := procfs.descendants([child.pid])) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert [process.command for process in below][1:] == ["sleep 60"]
        finally:
            procfs.send([process.pid for process in procfs.descendants([child.pid])], signal.SIGKILL)


def test_killing_insists_until_nothing_is_found() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        found = procfs.kill_all(lambda: [seen for seen in procfs.processes() if seen.pid == child.pid], "x")
    assert [process.pid for process in found] == [child.pid]
    assert child.returncode == -signal.SIGKILL


def test_what_survives_is_named() -> None:
    ghost = procfs.Process(2**22 + 1, 1, 0, 0, "D", "stuck in a disk")
    with pytest.raises(LabError, match=r"x: processes survive SIGKILL for 0.1 s: .*stuck in a disk"):
        procfs.kill_all(lambda: [ghost], "x", timeout_s=0.1)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("sshd: /usr/sbin/sshd -D -f /x/sshd_config [listener] 0 of 200-400 startups", True),
        ("sshd: bench@notty", True),
        ("sshd-session: bench [priv]", True),
        ("/usr/lib/openssh/sshd-session -D -R", True),
        ("/usr/sbin/sshd -D", True),
        ("python3 /home/bench/.fcgi-sweep/agent.pyz trial", False),
        ("vi /etc/ssh/sshd_config", False),
    ],
)
def test_sshd_is_told_from_what_it_runs(command: str, expected: bool) -> None:
    assert is_sshd(procfs.Process(1, 1, 0, 0, "S", command)) is expected
