"""The client against flup, a C responder on libfcgi and php-fpm, each a process on a unix socket."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.load import fcgi
from agent.load.report import Order, Output
from agent.wire.capabilities import ask
from agent.wire.client import drive
from agent.wire.command import load_to_json
from agent.wire.gates import judge
from agent.wire.probe import probe, refusal
from agent.wire.protocol import PreparedRequests, Request, web_request
from agent.wire.results import Expectation, WireLoad, WireResult
from fcgi_handlers.workloads import hello

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
HELLO = Expectation(len(hello.BODY), hashlib.sha256(hello.BODY).hexdigest())
STATS = struct.Struct("<7Q")  # magic, done, in flight, peak, answers to SIGUSR1, voluntary, involuntary

Start = Callable[..., str]
"""Starts a command with a listening unix socket as descriptor 0; returns the socket's path."""


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.terminate()
    for process in started:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@pytest.fixture
def start(tmp_path: Path, processes: list[subprocess.Popen[bytes]]) -> Start:
    def run(*command: str) -> str:
        path = tmp_path / f"{len(processes)}.sock"
        (tmp_path / "stats").mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FCGI_SWEEP_STATS": str(tmp_path / "stats")}
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1024)
            processes.append(subprocess.Popen(command, stdin=listener, env=environment))
        return str(path)

    return run


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Return a function that compiles one C file and returns the program's path."""
    directory = tmp_path_factory.mktemp("compiled")

    def build(source: Path, *options: str) -> str:
        if shutil.which("cc") is None:
            pytest.skip("no C compiler: install build-essential")
        if "-lfcgi" in options and not Path("/usr/include/fcgiapp.h").exists():
            pytest.skip("no libfcgi headers: install libfcgi-dev")
        program = directory / source.stem
        if not program.exists():
            command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source), *options]
            subprocess.run(command, check=True)
        return str(program)

    return build


@pytest.fixture
def limit(compiled: Callable[..., str], start: Start, tmp_path: Path) -> str:
    program = compiled(ROOT / "fcgi_handlers/native/limit.c", "-lfcgi")
    (tmp_path / "response").write_bytes(hello.RESPONSE)
    return start(program, str(tmp_path / "response"))


@pytest.fixture
def flup(start: Start) -> Callable[[str], str]:
    return lambda model: start(sys.executable, "-m", "fcgi_handlers", model, "hello")


def load(address: str, count: int, request: Request | None = None, **changes: object) -> WireResult:
    asked: dict[str, object] = {
        "expectation": HELLO,
        "duration_s": 60.0,
        "count": count,
        "answer_timeout_s": 20.0,
    }
    return drive(WireLoad((address,), request or web_request("/hello"), **{**asked, **changes}))  # type: ignore[arg-type]


def stats(tmp_path: Path, process: subprocess.Popen[bytes]) -> tuple[int, ...]:
    return STATS.unpack((tmp_path / "stats" / str(process.pid)).read_bytes()[: STATS.size])


def test_flup_threaded_serves_fresh_and_kept_connections(flup: Callable[[str], str]) -> None:
    address = flup("threaded")
    fresh = load(address, 200, connections=4)
    assert (fresh.ok, fresh.failed, fresh.evidence.connections_opened) == (200, 0, 200)
    kept = load(address, 200, connections=2, keep_conn=True)
    assert (kept.ok, kept.failed, kept.evidence.connections_opened) == (200, 0, 2)


def test_flup_threaded_does_not_say_that_it_cannot_interleave_but_is_found_out(
    flup: Callable[[str], str],
) -> None:
    address = flup("threaded")
    says = ask(address, 10)
    assert says.multiplexes in (None, False)
    result = load(address, 40, in_flight=4, keep_conn=True)
    assert "cant_mpx_conn" in result.faults
    asked = WireLoad(
        (address,), web_request("/hello"), HELLO, in_flight=4, keep_conn=True, answer_timeout_s=10
    )
    assert refusal(says, asked) is not None


def test_flup_multiplexed_interleaves_and_loses_nothing_when_ids_are_used_again(
    flup: Callable[[str], str], processes: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address = flup("multiplexed")
    result = load(address, 3000, connections=2, in_flight=8, keep_conn=True)
    assert (result.ok, result.faults) == (3000, {})
    assert result.evidence.connections_opened == 2
    assert result.evidence.peak_ids_per_connection == result.evidence.highest_id == 8
    assert result.evidence.peak_in_flight == 16
    _, done, _, peak, *_ = stats(tmp_path, processes[0])
    assert done == 3000
    assert 1 < peak <= 16


def test_flup_multiplexed_passes_the_probe(flup: Callable[[str], str]) -> None:
    result = probe(flup("multiplexed"), 10, web_request("/hello"), HELLO)
    assert result.passed
    assert [check.name for check in result.checks if check.passed] == [
        "responses",
        "keep_conn",
        "interleaving",
    ]


def test_the_limit_responder_counts_and_says_what_it_can(
    limit: str, processes: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    fresh = load(limit, 300, connections=4)
    kept = load(limit, 300, keep_conn=True)
    assert (fresh.ok, fresh.failed, kept.ok, kept.failed) == (300, 0, 300, 0)
    assert (fresh.evidence.connections_opened, kept.evidence.connections_opened) == (300, 1)
    says = ask(limit, 10)
    assert (says.answer, says.max_conns, says.multiplexes) == ("values", 1, False)
    processes[0].send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 10
    while stats(tmp_path, processes[0])[4] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    magic, done, in_flight, peak, answers, voluntary, _ = stats(tmp_path, processes[0])
    assert (magic, done, in_flight, peak, answers) == (0x46435357, 600, 0, 1, 1)
    assert voluntary > 0


def test_the_limit_responder_refuses_interleaved_requests(limit: str) -> None:
    result = load(limit, 20, in_flight=3, keep_conn=True, faults_allowed=10)
    assert "cant_mpx_conn" in result.faults


def test_the_limit_responder_leaves_no_body_behind_on_a_kept_connection(limit: str) -> None:
    uploads = load(limit, 30, web_request("/up", body=bytes(100_000)), keep_conn=True)
    assert (uploads.ok, uploads.failed) == (30, 0)


def test_a_starved_connection_shows_that_libfcgi_serves_one_at_a_time(limit: str) -> None:
    result = load(limit, 10**9, connections=2, keep_conn=True, duration_s=0.5, answer_timeout_s=0.5)
    assert set(result.faults) == {"unanswered"}
    assert result.ok > 0


@pytest.mark.parametrize("attempt", range(5))
def test_the_limit_responder_serves_its_queue_before_it_goes(
    limit: str, processes: list[subprocess.Popen[bytes]], attempt: int
) -> None:
    assert load(limit, 1).ok == 1
    request = PreparedRequests(web_request("/hello"), 1, keep_conn=False).bytes_for([1])
    with contextlib.ExitStack() as stack:
        waiting = []
        for _ in range(20):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(10)
            connection.connect(limit)
            connection.sendall(request)
            waiting.append(connection)
        time.sleep(0.0002 * attempt)
        processes[0].send_signal(signal.SIGTERM)
        for connection in waiting:
            answer = b""
            while data := connection.recv(65536):
                answer += data
            assert hello.BODY in answer
            connection.close()  # libfcgi waits for that, up to two seconds each
    assert processes[0].wait(timeout=10) == 0


def test_the_limit_responder_does_not_wait_for_an_idle_kept_connection(
    limit: str, processes: list[subprocess.Popen[bytes]]
) -> None:
    request = PreparedRequests(web_request("/hello"), 1, keep_conn=True).bytes_for([1])
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(limit)
        connection.sendall(request)
        assert connection.recv(65536)
        processes[0].send_signal(signal.SIGTERM)
        assert processes[0].wait(timeout=10) == 0


def test_a_responder_that_multiplexes_in_c_takes_any_mixture(
    compiled: Callable[..., str], processes: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    program = compiled(ROOT / "benchmarks/wire_responder.c")
    (tmp_path / "response").write_bytes(hello.RESPONSE)
    address = str(tmp_path / "fast.sock")
    processes.append(subprocess.Popen([program, address, str(tmp_path / "response")]))
    wait_for(Path(address))
    assert ask(address, 10).multiplexes is True
    for connections, in_flight in ((1, 1), (1, 64), (4, 16), (64, 1)):
        result = load(address, 5000, connections=connections, in_flight=in_flight, keep_conn=True)
        assert (result.ok, result.failed) == (5000, 0)
        assert result.evidence.peak_in_flight == connections * in_flight


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


PHP_SCRIPT = """<?php
header('Content-Type: text/plain');
if (isset($_GET['log'])) { error_log('a line for STDERR'); }
echo hash('sha256', file_get_contents('php://input')), str_repeat('.', 20000);
"""


@pytest.fixture
def php(processes: list[subprocess.Popen[bytes]], tmp_path: Path) -> Callable[..., Request]:
    """Start php-fpm with a pool of two on `<tmp_path>/php.sock`; return a maker of requests to its script."""
    found = sorted([*Path("/usr/sbin").glob("php-fpm*"), *Path("/usr/local/sbin").glob("php-fpm*")])
    if not found:
        pytest.skip("no php-fpm: install php-fpm")
    script = tmp_path / "echo.php"
    script.write_text(PHP_SCRIPT)
    configuration = tmp_path / "fpm.conf"
    configuration.write_text(
        f"[global]\nerror_log = {tmp_path}/fpm.log\ndaemonize = no\n"
        f"[www]\nlisten = {tmp_path}/php.sock\npm = static\npm.max_children = 2\n"
    )
    as_root = ["-R"] if os.geteuid() == 0 else []
    command = [str(found[-1]), "-n", "-y", str(configuration), "-F", *as_root]
    if as_root:
        configuration.write_text(configuration.read_text() + "user = root\ngroup = root\n")
    processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    wait_for(tmp_path / "php.sock")

    def request(query: str = "", body: bytes = b"") -> Request:
        return web_request("/echo.php", query, body, {"SCRIPT_FILENAME": str(script)})

    return request


def php_expectation(body: bytes = b"") -> Expectation:
    response = hashlib.sha256(body).hexdigest().encode() + b"." * 20000
    return Expectation(len(response), hashlib.sha256(response).hexdigest())


def test_php_fpm_serves_fresh_and_kept_connections(php: Callable[..., Request], tmp_path: Path) -> None:
    address = str(tmp_path / "php.sock")
    for keep_conn, connections in ((False, 300), (True, 2)):
        result = load(address, 300, php(), connections=2, keep_conn=keep_conn, expectation=php_expectation())
        assert (result.ok, result.faults) == (300, {})
        assert result.evidence.connections_opened == connections


def test_php_fpm_gets_every_byte_of_an_upload(php: Callable[..., Request], tmp_path: Path) -> None:
    body = os.urandom(200_000)
    result = load(
        str(tmp_path / "php.sock"), 20, php("", body), keep_conn=True, expectation=php_expectation(body)
    )
    assert (result.ok, result.faults) == (20, {})


def test_php_fpm_writes_to_stderr_without_harm(php: Callable[..., Request], tmp_path: Path) -> None:
    result = load(str(tmp_path / "php.sock"), 5, php("log=1"), expectation=php_expectation())
    assert (result.ok, result.faults) == (5, {})
    assert result.stderr_bytes > 0


def test_php_fpm_says_that_it_does_not_interleave_and_breaks_when_made_to(
    php: Callable[..., Request], tmp_path: Path
) -> None:
    address = str(tmp_path / "php.sock")
    says = ask(address, 10)
    assert says.multiplexes is False
    result = load(
        address,
        40,
        php(),
        in_flight=3,
        keep_conn=True,
        expectation=php_expectation(),
        answer_timeout_s=1,
        faults_allowed=9,
    )
    assert result.failed > 0
    probed = probe(address, 10, php(), php_expectation())
    assert probed.passed
    assert probed.checks[-1].detail == "not claimed (FCGI_MPXS_CONNS=0), not tried"


def test_the_probe_runs_as_a_command(limit: str) -> None:
    command = [sys.executable, "-m", "agent.wire", "probe", limit, "--url", "/hello"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "FCGI_MPXS_CONNS=0" in done.stdout


def test_the_load_tool_runs_from_the_agents_archive(flup: Callable[[str], str], tmp_path: Path) -> None:
    archive = tmp_path / "agent.pyz"
    bundle = [sys.executable, str(ROOT / "roles/bundles/files/bundle.py"), str(ROOT / "agent"), str(archive)]
    subprocess.run([*bundle, "--runnable"], check=True, stdout=subprocess.DEVNULL)
    asked = WireLoad(
        (flup("multiplexed"),), web_request("/hello"), HELLO, connections=2, in_flight=3, keep_conn=True
    )
    (tmp_path / "load.json").write_text(json.dumps(load_to_json(asked)))
    order = Order(str(archive), f"fcgi:{tmp_path}/load.json", 6, 1, keepalive=True, csv=tmp_path / "csv")
    done = subprocess.run(
        fcgi.command(order), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    output = Output(text=done.stdout + done.stderr, csv="", status=done.returncode)
    report = fcgi.parse(output)
    assert report.failed == 0
    assert report.complete > 0
    assert report.keepalive is not None and report.keepalive >= report.complete - 2
    assert [(gate.name, gate.passed) for gate in judge(asked, fcgi.result(output))] == [
        ("connections", True),
        ("multiplexing", True),
    ]
