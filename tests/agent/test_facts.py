from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent import facts, manifest
from agent.__main__ import main
from agent.records import Facts

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def provisioned(tmp_path: Path) -> Path:
    """A prefix whose handlers are those of the source tree."""
    document = {"python": [{"path": sys.executable, "default": True}], "handlers": {"path": str(PROJECT)}}
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    return tmp_path


def test_the_facts_of_this_host_survive_the_journey(provisioned: Path) -> None:
    found = facts.gather(provisioned, ["cpu(250)"])
    assert Facts.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.cpus == tuple(sorted(os.sched_getaffinity(0)))
    assert found.cores == len(found.cpus) >= found.sockets >= 1
    assert {"threaded", "multiplexed"} <= {handler["name"] for handler in found.handlers}
    assert {"hello", "cpu(250)"} <= {workload["name"] for workload in found.workloads}
    assert found.lock is None
    assert found.orphans == 0


def test_handlers_in_the_working_directory_are_not_those_of_the_host(
    provisioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "fcgi_handlers").mkdir(parents=True)
    (tmp_path / "elsewhere" / "fcgi_handlers" / "__main__.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert {"threaded", "multiplexed"} <= {handler["name"] for handler in facts.gather(provisioned).handlers}


def test_models_that_cannot_run_here_are_told_with_the_reason(
    tmp_path: Path, handlers_home: Path, absent_models: dict[str, str]
) -> None:
    (handlers_home / "fcgi_handlers" / "models" / "never.py").write_text(
        "from fcgi_handlers.model import Model\n"
        "MODEL = Model('never', lambda *_: None, 1, False, absence=lambda: 'it is Monday')\n"
    )
    document = {
        "python": [{"path": sys.executable, "default": True}],
        "handlers": {"path": str(handlers_home)},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    try:
        found = facts.gather(tmp_path)
    finally:
        (handlers_home / "fcgi_handlers" / "models" / "never.py").unlink()
    told = {each["name"]: each["reason"] for each in found.absent_handlers}
    assert told == {**absent_models, "never": "it is Monday"}
    assert not {handler["name"] for handler in found.handlers} & set(told)


def test_a_bare_host_has_facts_too(tmp_path: Path) -> None:
    found = facts.gather(tmp_path / "nowhere")
    assert (found.manifest, found.handlers, found.workloads) == (None, (), ())
    assert found.disk_free_bytes > 0


def test_half_a_manifest_is_none(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"python": [')
    assert manifest.read(tmp_path) is None


def test_archive_and_source_tree_have_the_fingerprint_that_provisioning_computes(tmp_path: Path) -> None:
    packer = PROJECT / "roles/bundles/files/bundle.py"
    archive = tmp_path / "agent.pyz"
    packed = subprocess.run(
        [sys.executable, packer, "--runnable", PROJECT / "agent", archive], capture_output=True, check=True
    )
    said = subprocess.run([sys.executable, archive, "facts"], capture_output=True, check=True, cwd="/")
    deployed = Facts.from_json(json.loads(said.stdout))
    assert deployed.agent.fingerprint == facts.fingerprint() == json.loads(packed.stdout)["fingerprint"]
    assert deployed.prefix == str(tmp_path)


def test_what_the_agent_says_does_not_depend_on_the_locale(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "agent", "facts", "--prefix", str(tmp_path / "Jörg")],
        cwd=PROJECT, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=True,
    )  # fmt: skip
    assert Facts.from_json(json.loads(said.stdout)).prefix == str(tmp_path / "Jörg")


@pytest.mark.parametrize("arguments", [[], ["trail"], ["clean", "now"], ["trial", "--prefix"]])
def test_bad_arguments_are_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "usage:" in capsys.readouterr().err
