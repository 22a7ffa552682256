from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import agent
import fcgi_handlers
from controller.doctor import source_fingerprint

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "roles" / "bundles" / "files" / "bundle.py"


@pytest.mark.parametrize("package", [agent, fcgi_handlers])
def test_doctor_and_provisioning_agree_on_what_a_checkout_is(package: object, tmp_path: Path) -> None:
    source = Path(package.__path__[0])  # type: ignore[attr-defined]
    done = subprocess.run(
        [sys.executable, str(BUNDLE), str(source), str(tmp_path / "bundle.zip")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["fingerprint"] == source_fingerprint(source)
