from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from controller import lighttpd_conf
from controller.lighttpd_conf import LighttpdConf, listen_backlog, render_lighttpd_conf


def conf(**changes: object) -> LighttpdConf:
    values: dict[str, object] = {
        "work_dir": "/srv/run/0011aabb",
        "address": "127.0.0.1",
        "port": 8080,
        "modules_dir": "/l/lib",
        "handler": "threaded",
        "processes": 4,
        "command": "/v/bin/python -m fcgi_handlers threaded hello",
        "environment": {"PYTHONPATH": "/h", "FCGI_SWEEP_TRIAL": "t"},
        "url_path": "/hello",
        "keepalive": False,
        "concurrency": 32,
    }
    return LighttpdConf(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("concurrency", [1, 512, 513, 4000])
def test_handlers_on_the_wire_get_the_queue_that_lighttpd_would_give_them(concurrency: int) -> None:
    text = render_lighttpd_conf(conf(concurrency=concurrency))
    assert f'"listen-backlog" => {listen_backlog(concurrency)},' in text


def test_everything_that_versions_decide_differently_is_pinned() -> None:
    text = render_lighttpd_conf(conf())
    for line in (
        '"server.h2proto" => "disable"',
        '"min-procs" => 4,',
        '"max-procs" => 4,',
        '"bin-path" => "/v/bin/python -m fcgi_handlers threaded hello"',
        '"bin-copy-environment" => ( "PATH", "LANG", "HOME" )',
        '"PYTHONPATH" => "/h",',
        "server.max-keep-alive-requests = 0",
        "server.listen-backlog = 1024",
        "server.max-fds = 1024",
        "server.stream-response-body = 0",
        'server.event-handler = "linux-sysepoll"',
        'server.bind = "127.0.0.1"',
    ):
        assert line in text


def test_an_ipv6_address_is_written_as_lighttpd_wants_it() -> None:
    assert 'server.bind = "[2001:db8::1]"' in render_lighttpd_conf(conf(address="2001:db8::1"))


def test_limits_grow_with_the_concurrency_and_keep_alive_is_unlimited_in_practice() -> None:
    text = render_lighttpd_conf(conf(concurrency=2000, keepalive=True))
    assert "server.listen-backlog = 4000" in text
    assert "server.max-fds = 8256" in text
    assert "server.max-keep-alive-requests = 60000" in text


def test_the_ceiling_has_no_handler() -> None:
    assert "fastcgi" not in render_lighttpd_conf(conf(handler="static", processes=0))


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb"])
def test_a_value_that_would_end_its_string_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in lighttpd"):
        render_lighttpd_conf(conf(environment={"X": value}))


def test_a_variable_that_the_template_does_not_get_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        lighttpd_conf._environment.from_string("{{ conf.nonsense }}").render(conf=conf())


@pytest.fixture(scope="session")
def system_lighttpd(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A lighttpd of the distribution: installed, or unpacked from its package into a directory."""
    if installed := shutil.which("lighttpd"):
        return installed, "/usr/lib/lighttpd"
    if not shutil.which("apt-get"):
        pytest.skip("no lighttpd here and no apt-get to fetch one")
    place = tmp_path_factory.mktemp("lighttpd")
    fetched = subprocess.run(
        ["apt-get", "-q", "download", "lighttpd"], cwd=place, capture_output=True, text=True, check=False
    )
    packages = list(place.glob("*.deb"))
    if fetched.returncode != 0 or not packages:
        pytest.skip(f"lighttpd's package cannot be fetched: {fetched.stderr.strip()[-200:]}")
    subprocess.run(["dpkg", "-x", str(packages[0]), str(place)], check=True)
    return str(place / "usr/sbin/lighttpd"), str(place / "usr/lib/lighttpd")


@pytest.mark.integration
@pytest.mark.parametrize("handler", ["threaded", "static"])
@pytest.mark.parametrize("keepalive", [True, False])
def test_a_real_lighttpd_accepts_it(
    system_lighttpd: tuple[str, str], tmp_path: Path, handler: str, keepalive: bool
) -> None:
    program, modules = system_lighttpd
    for folder in ("sock", "static"):
        (tmp_path / folder).mkdir()
    path = tmp_path / "lighttpd.conf"
    values = conf(
        work_dir=str(tmp_path), handler=handler, keepalive=keepalive, command=f"{sys.executable} -V"
    )
    path.write_text(render_lighttpd_conf(values))
    done = subprocess.run(
        [program, "-tt", "-f", str(path), "-m", modules], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
