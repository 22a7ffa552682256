from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fcgi_handlers import registry
from fcgi_handlers.__main__ import describe, main


def test_models_are_the_modules_of_their_package() -> None:
    assert {"threaded", "multiplexed", "multiplexed-stock"} <= set(registry.model_names())


def test_every_model_and_workload_loads_and_describes_itself() -> None:
    described = describe()
    assert [model["name"] for model in described["models"]] == registry.model_names()
    assert [workload["name"] for workload in described["workloads"]] == registry.workload_names()
    assert all(model["summary"] for model in described["models"])


def test_hello_is_the_same_1024_bytes_everywhere() -> None:
    hello = registry.load_workload("hello")
    assert len(hello.body) == 1024
    assert hello.sha256 == "51a208aff3b4b30384eee8917b17c6a481bc17c7cfa3346fcd8d661ea6b73c0d"


def test_unknown_names_list_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["thraeded", "hello"]) == 2
    message = capsys.readouterr().err
    assert "'thraeded'" in message
    assert "threaded" in message


def test_the_command_line_describes_in_json_and_prints_a_body() -> None:
    command = [sys.executable, "-m", "fcgi_handlers"]
    described = subprocess.run([*command, "describe"], capture_output=True, check=True)
    assert json.loads(described.stdout) == describe()
    body = subprocess.run([*command, "body", "hello"], capture_output=True, check=True)
    assert body.stdout == registry.load_workload("hello").body


def test_no_arguments_explain_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err
