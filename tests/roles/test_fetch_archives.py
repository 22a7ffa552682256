"""The controller's archive cache: where archives come from and what is refused."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "roles" / "source_archives" / "files" / "fetch_archives.py"
CONTENT = b"lighttpd, as its authors packed it"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_archives", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def request_for(tmp_path: Path) -> Any:
    def make(urls: list[str], **more: Any) -> dict[str, Any]:
        archive = {"file": "lighttpd-9.tar.xz", "sha256": SHA256, "urls": urls}
        return {
            "cache": str(tmp_path / "cache"),
            "sources": ["upstream"],
            "upstream_timeout_s": 2,
            "archives": [{"name": "lighttpd-9", "archive": archive}],
            **more,
        }

    return make


def test_an_archive_is_fetched_once_and_then_comes_from_the_cache(
    script: ModuleType, request_for: Any, tmp_path: Path
) -> None:
    upstream = tmp_path / "upstream.tar.xz"
    upstream.write_bytes(CONTENT)
    request = request_for([upstream.as_uri()])
    first = script.answer(request)
    assert first["fetched"] == ["lighttpd-9"]
    assert first["archives"]["lighttpd-9"]["source"] == upstream.as_uri()
    upstream.unlink()
    again = script.answer(request)
    assert again["fetched"] == []
    assert again["archives"]["lighttpd-9"]["source"] == "cache"
    assert Path(again["archives"]["lighttpd-9"]["path"]).read_bytes() == CONTENT


def test_the_next_address_is_tried_when_one_lies(
    script: ModuleType, request_for: Any, tmp_path: Path
) -> None:
    liar, honest = tmp_path / "liar", tmp_path / "honest"
    liar.write_bytes(b"something else")
    honest.write_bytes(CONTENT)
    answer = script.answer(request_for([liar.as_uri(), honest.as_uri()]))
    assert answer["archives"]["lighttpd-9"]["source"] == honest.as_uri()


def test_nothing_wrong_reaches_the_cache(script: ModuleType, request_for: Any, tmp_path: Path) -> None:
    liar = tmp_path / "liar"
    liar.write_bytes(b"something else")
    with pytest.raises(script.FetchError, match="no source has lighttpd-9") as refusal:
        script.answer(request_for([liar.as_uri()]))
    assert SHA256 in str(refusal.value)
    assert hashlib.sha256(b"something else").hexdigest() in str(refusal.value)
    assert f"put lighttpd-9.tar.xz into {tmp_path / 'cache'}/ yourself" in str(refusal.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_controller_that_must_not_reach_out_says_so(script: ModuleType, request_for: Any) -> None:
    with pytest.raises(script.FetchError, match=r"no source is allowed \(source_archives_sources\)"):
        script.answer(request_for(["https://nowhere.invalid/x"], sources=[]))


def test_a_damaged_file_in_the_cache_is_named(script: ModuleType, request_for: Any, tmp_path: Path) -> None:
    cached = tmp_path / "cache" / "lighttpd-9.tar.xz"
    cached.parent.mkdir()
    cached.write_bytes(b"half of")
    with pytest.raises(script.FetchError, match="wrong checksum") as refusal:
        script.answer(request_for([]))
    assert str(cached) in str(refusal.value)
    assert "delete it and provision again" in str(refusal.value)


def test_a_dry_run_fetches_nothing(script: ModuleType, request_for: Any, tmp_path: Path) -> None:
    answer = script.answer(request_for(["https://nowhere.invalid/x"], dry_run=True))
    assert answer["fetched"] == ["lighttpd-9"]
    assert not (tmp_path / "cache").exists()


def test_an_address_that_is_no_web_address_is_refused(script: ModuleType, request_for: Any) -> None:
    with pytest.raises(script.FetchError, match="only https, http and file addresses"):
        script.answer(request_for(["ftp://example.net/x"]))


@pytest.mark.integration
def test_debian_has_the_default_lighttpd_under_its_upstream_sum(script: ModuleType, tmp_path: Path) -> None:
    if script.os_release().get("ID") != "debian":
        pytest.skip("this machine is no Debian; its apt knows no Debian mirror")
    known = "3b29a625b3ad88702d1fea4f5f42bb7d87488f2e4efc977d7f185329ca6084bd"
    target = tmp_path / "lighttpd.tar.xz"
    script.DebianSources(tmp_path).fetch("lighttpd", ["trixie"], known, target)
    assert script.sha256_of(target) == known
