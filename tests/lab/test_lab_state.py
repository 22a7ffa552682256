from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import LabError
from lab.plan import HostSpec
from lab.state import Record, State

RECORD = Record(
    name="x",
    mode="namespaces",
    rootfs="overlay",
    network="198.18.9.0/24",
    hosts=(HostSpec("x-2core", 2, (0, 1), "198.18.9.12", 22),),
    inventory=None,
)


def test_a_record_is_read_as_it_was_written(state_home: Path) -> None:
    state = State("x")
    assert state.load() is None
    state.save(RECORD)
    assert state.load() == RECORD
    assert state.path == state_home / "x"
    assert state.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "{", '{"schema": 99}', '{"schema": 1, "name": "x"}'])
def test_an_unreadable_record_names_the_file_and_the_way_out(state_home: Path, text: str) -> None:
    state = State("x")
    state.path.mkdir(parents=True)
    state.record_file.write_text(text)
    with pytest.raises(LabError, match=r"lab\.json cannot be read .*lab down --name x"):
        state.load()


def test_keys_are_made_once_and_kept(state_home: Path) -> None:
    state = State("x")
    public = state.make_key(state.client_key, "a comment")
    assert public.startswith("ssh-ed25519 ")
    assert state.make_key(state.client_key, "another") == public
    assert state.client_key.stat().st_mode & 0o777 == 0o600


def test_removing_takes_the_directory_and_the_lock(state_home: Path) -> None:
    state = State("x")
    with state.locked():
        state.save(RECORD)
        state.host_dir("x-2core").mkdir()
        assert state.remove()
        assert not state.remove()
    assert list(state_home.iterdir()) == []


def test_a_second_command_waits_and_then_says_who_is_in_the_way(state_home: Path) -> None:
    with State("x").locked():
        started = time.monotonic()
        with pytest.raises(LabError, match="another command has held lab x"), State("x").locked(0.2):
            pass
        assert time.monotonic() - started >= 0.2
        with State("y").locked(0.2):
            pass


def test_a_child_that_inherits_the_lock_keeps_it_when_the_parent_is_gone(state_home: Path) -> None:
    state = State("x")
    holder = (
        "import os, subprocess, sys\nfrom lab.state import State\n"
        "with State('x').locked() as lock:\n"
        "    subprocess.Popen(['sleep', '0.6'], pass_fds=[lock], stdout=-3, stderr=-3)\n"
        "    print('held', flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", holder],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "held\n"
    with pytest.raises(LabError), state.locked(0.1):
        pass
    with state.locked(5):
        pass
