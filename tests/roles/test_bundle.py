"""Bundles of the project's packages: the same sources give the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "roles" / "bundles" / "files" / "bundle.py"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    directory = tmp_path / "checkout" / "greeter"
    directory.mkdir(parents=True)
    (directory / "__init__.py").write_text("")
    (directory / "__main__.py").write_text("print('good morning')\n")
    return directory


def bundle(package: Path, target: Path) -> tuple[bytes, str]:
    said = subprocess.check_output([sys.executable, SCRIPT, "--runnable", package, target])
    return target.read_bytes(), json.loads(said)["fingerprint"]


def test_times_and_byte_code_do_not_matter(package: Path, tmp_path: Path) -> None:
    first = bundle(package, tmp_path / "one.pyz")
    os.utime(package / "__main__.py", (1, 1))
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert bundle(package, tmp_path / "two.pyz") == first


def test_a_changed_source_changes_bytes_and_fingerprint(package: Path, tmp_path: Path) -> None:
    content, fingerprint = bundle(package, tmp_path / "one.pyz")
    (package / "__main__.py").write_text("print('good evening')\n")
    other, changed = bundle(package, tmp_path / "two.pyz")
    assert other != content
    assert changed != fingerprint


def test_the_bundle_runs(package: Path, tmp_path: Path) -> None:
    bundle(package, tmp_path / "one.pyz")
    assert subprocess.check_output([sys.executable, tmp_path / "one.pyz"]) == b"good morning\n"


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, tmp_path / "nothing", tmp_path / "x.zip"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{tmp_path / 'nothing'}: no such package" in done.stderr
