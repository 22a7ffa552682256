"""The probe as a user has it, from this machine and through the agent of a host."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def responder() -> Iterator[Path]:
    """The socket of a handler that multiplexes."""
    # not tmp_path: the paths of sockets must stay short
    with tempfile.TemporaryDirectory(prefix="fp-") as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory) / "app.sock"
        listener.bind(str(path))
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-m", "fcgi_handlers", "asyncio", "hello"],
            stdin=listener,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        yield path
        process.terminate()
        process.wait(10)


def probe(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "controller", "probe", *arguments, "--timeout", "5"]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_responder_is_described_for_a_reader_and_for_a_program(responder: Path) -> None:
    done = probe("./app.sock", "--url", "/hello", cwd=responder.parent)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "./app.sock"
    assert "  multiplexes: yes" in lines
    assert {line.split(":")[0].strip() for line in lines if ": ok (" in line} == {
        "responses", "keep_conn", "interleaving",
    }  # fmt: skip
    document = json.loads(probe(str(responder), "--url", "/hello", "--json").stdout)
    assert document["passed"] is True
    assert set(document["rates_rps"]) == {"fresh", "kept", "interleaved"}


def test_a_responder_that_is_not_there_fails_and_an_address_that_is_none_is_bad_input(tmp_path: Path) -> None:
    gone = probe(str(tmp_path / "gone.sock"))
    assert gone.returncode == 1
    assert "reachable: FAILED (No such file" in gone.stdout
    wrong = probe("nowhere")
    assert wrong.returncode == 2
    assert "give a unix socket's path with a slash in it, or host:port" in wrong.stderr


def test_a_responder_is_seen_from_a_host_through_its_agent(
    fleet: Any, one_host: Any, responder: Path
) -> None:
    packer = ROOT / "roles/bundles/files/bundle.py"
    archive = one_host.prefix / "agent.pyz"
    subprocess.run([sys.executable, packer, "--runnable", ROOT / "agent", archive], check=True, cwd=ROOT)
    inventory = ["--inventory", str(fleet.inventory), "--host", "web1"]
    done = probe(str(responder), "--url", "/hello", *inventory)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{responder}\n  says: ")
    wrong = probe("nowhere", *inventory)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("web1: probe: nowhere: not an address")
    archive.unlink()
    bare = probe(str(responder), *inventory)
    assert bare.returncode == 1
    assert "web1: no agent at" in bare.stderr
    assert "fcgi-sweep provision --limit web1" in bare.stderr


def test_the_host_to_look_from_must_be_one(fleet: Any) -> None:
    fleet.add("web1")
    fleet.add("web2")
    done = probe("127.0.0.1:9000", "--inventory", str(fleet.inventory), "--host", "targets")
    assert done.returncode == 2
    assert "--host targets: is 2 hosts; name one of web1, web2" in done.stderr
