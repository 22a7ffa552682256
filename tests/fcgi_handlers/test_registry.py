from __future__ import annotations

import io
import json
import subprocess
import sys
import time

import pytest

from fcgi_handlers import registry
from fcgi_handlers.__main__ import describe, main


def test_models_are_the_modules_of_their_package() -> None:
    assert {"threaded", "multiplexed", "multiplexed-stock"} <= set(registry.model_names())


def test_every_model_and_workload_loads_and_describes_itself() -> None:
    described = describe()
    assert (
        sorted(each["name"] for each in described["models"] + described["absent"]) == registry.model_names()
    )
    assert all("not compiled here" in each["reason"] for each in described["absent"])
    assert [workload["name"] for workload in described["workloads"]] == registry.workload_names()
    assert all(model["summary"] for model in described["models"])


def test_workloads_with_parameters_are_described_when_asked() -> None:
    *_, first, second, third = describe(["cpu(250)", "body(10)", "hello", "upload(9)"])["workloads"]
    assert (first["name"], first["url_path"]) == ("cpu(250)", "/cpu(250)")
    assert (second["name"], second["bytes"], second["request_bytes"]) == ("body(10)", 10, 0)
    assert (third["name"], third["request_bytes"]) == ("upload(9)", 9)


def test_a_workload_that_this_package_does_not_know_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    names = [workload["name"] for workload in describe(["startup(2000)", "jump(3)"])["workloads"]]
    assert names[-1] == "startup(2000)"
    assert "no workload is called 'jump'" in capsys.readouterr().err


def test_a_model_that_cannot_run_here_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if not registry.load_model("limit").absence():
        pytest.skip("limit is compiled in this checkout")
    assert main(["limit", "hello"]) == 2
    assert "libfcgi" in capsys.readouterr().err


def test_hello_is_the_same_1024_bytes_everywhere() -> None:
    hello = registry.load_workload("hello")
    assert len(hello.body) == 1024
    assert hello.sha256 == "51a208aff3b4b30384eee8917b17c6a481bc17c7cfa3346fcd8d661ea6b73c0d"


@pytest.mark.parametrize(
    "name", ["cpu(250)", "wait(3)", "mixed(100,2)", "body(2000000)", "startup(7)", "upload(9)"]
)
def test_a_workload_with_parameters_is_named_and_served_under_its_full_name(name: str) -> None:
    workload = registry.load_workload(name)
    assert (workload.name, workload.url_path) == (name, f"/{name}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cpu(1,2)", "'cpu(1,2)' has 2 parameters; write cpu(us)"),
        ("hello(3)", "'hello(3)' has 1 parameters; write hello alone"),
        ("cpu(-1)", "is no workload; write a name"),
        ("cpu[5]", "is no workload; write a name"),
        ("cup(5)", "no workload is called 'cup'; there are: body, cpu, "),
    ],
)
def test_wrong_parameters_are_explained(name: str, said: str) -> None:
    with pytest.raises(registry.UnknownName) as caught:
        registry.load_workload(name)
    assert said in str(caught.value)


def test_processor_time_and_waits_are_what_the_name_says() -> None:
    began_s, began_cpu_s = time.monotonic(), time.thread_time()
    registry.load_workload("mixed(20000,50)").respond(io.BytesIO())
    assert time.thread_time() - began_cpu_s >= 0.020
    assert time.monotonic() - began_s >= 0.070


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
    request = subprocess.run([*command, "request", "upload(70)"], capture_output=True, check=True)
    assert request.stdout == registry.load_workload("upload(70)").request_body


def test_no_arguments_explain_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("redirection", ["</dev/null", "<&-"])
def test_a_handler_without_a_socket_says_what_it_lacks(redirection: str) -> None:
    command = f"exec {sys.executable} -m fcgi_handlers serial hello {redirection}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fcgi_handlers: descriptor 0 is no socket")
    assert len(done.stderr.splitlines()) == 1
