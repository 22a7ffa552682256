"""Provisioning from end to end, on hosts that are directories of this machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from conftest import Outcome, Site

    Fleet = tuple[Site, Outcome]

PROJECT = Path(__file__).resolve().parents[2]
PROVISION = "provision.yml"


def tree(directory: Path) -> dict[str, str]:
    """Return every path below a directory with what it holds."""
    return {
        str(path.relative_to(directory)): path.read_bytes().hex() if path.is_file() else "directory"
        for path in sorted(directory.rglob("*"))
    }


def test_bad_hosts_do_not_stop_the_good_one_and_are_named_with_the_next_step(fleet: Fleet) -> None:
    site, outcome = fleet
    assert outcome.exit_code != 0
    assert outcome.count("good", "failed") == 0
    assert site.manifest("good")["lighttpd"]
    summary = outcome.text[outcome.text.index("2 of 3 hosts did not go through") :]
    assert "gone: could not be reached" in summary
    assert "Connection refused" in summary
    assert "No checksum is known for lighttpd-1.4.1" in summary
    assert "--limit unknown" in summary
    assert "Went through: good" in summary


def test_the_manifest_says_what_stands_there(fleet: Fleet) -> None:
    site, _ = fleet
    prefix = site.directory / "good"
    manifest = site.manifest("good")
    assert manifest["schema"] == 1
    assert manifest["prefix"] == str(prefix)
    assert [(build["version"], build["default"]) for build in manifest["lighttpd"]] == [
        ("9.9.1", True),
        ("9.9.0", False),
    ]
    for build in manifest["lighttpd"]:
        linked = subprocess.run(["ldd", build["path"]], capture_output=True, text=True, check=True).stdout
        assert f"=> {prefix}/pcre2-99.1/lib/libpcre2-8.so" in linked
    subprocess.run([manifest["python"][0]["path"], "-c", "import flup"], check=True)
    said = json.loads(subprocess.check_output([manifest["agent"]["path"], "facts"]))
    assert said["agent"]["fingerprint"] == manifest["agent"]["fingerprint"]
    assert {handler["name"] for handler in said["handlers"]} >= {"threaded", "multiplexed", "limit"}


def test_each_python_has_a_name_its_version_the_state_of_its_lock_and_flup(fleet: Fleet) -> None:
    site, _ = fleet
    system, *built = site.manifest("good")["python"]
    assert (system["name"], system["gil"], system["default"]) == ("system", True, True)
    assert [(each["name"], each["version"], each["gil"], each["default"]) for each in built] == [
        ("cpython-9.9.3", "9.9.3", True, False),
        ("cpython-9.9.3t", "9.9.3", False, False),
    ]
    for python in built:
        said = subprocess.check_output([python["path"], "-c", "import flup; print(flup.__file__)"], text=True)
        assert said.startswith(f"{site.directory}/good/{python['name']}/venv/")


def test_a_second_run_changes_nothing(fleet: Fleet) -> None:
    site, _ = fleet
    assert site.play(PROVISION, "--limit=good").succeeded().count("good", "changed") == 0


def test_a_check_of_a_built_host_finds_nothing_to_do(fleet: Fleet) -> None:
    site, _ = fleet
    assert site.play(PROVISION, "--limit=good", "--check").succeeded().count("good", "changed") == 0


def test_only_what_an_input_reaches_is_built_again(fleet: Fleet) -> None:
    site, _ = fleet
    pcre = site.directory / "good" / "pcre2-99.1" / ".build-stamp"
    before = site.manifest("good")["lighttpd"][0]["fingerprint"], pcre.stat().st_mtime_ns
    site.play(PROVISION, "--limit=good", lighttpd_cmake_options=["-Wno-dev"]).succeeded()
    after = site.manifest("good")["lighttpd"][0]["fingerprint"], pcre.stat().st_mtime_ns
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_check_of_a_bare_host_says_what_it_would_do_and_does_nothing(site: Site) -> None:
    prefix = site.add("web", fcgi_sweep_pythons=[{"version": "9.9.3", "gil": False}])
    outcome = site.play(PROVISION, "--check").succeeded()
    assert "Would build pcre2-99.1" in outcome.text
    assert "Would build lighttpd-9.9.1" in outcome.text
    assert "Would build cpython-9.9.3t" in outcome.text
    assert not prefix.exists()


def test_a_host_without_libfcgi_and_without_root_does_without_the_ceiling(site: Site) -> None:
    tests = yaml.safe_load((PROJECT / "roles/system_packages/vars/main.yml").read_text())
    without = {"system_packages_become": False}
    without["system_packages_tests"] = {**tests["system_packages_tests"], "libfcgi": "false"}
    prefix = site.add("good")
    first = site.play(PROVISION, **without).succeeded()
    assert "limit, the ceiling of the FastCGI path, is absent on this host" in first.text
    assert "libfcgi-dev" in first.text
    said = json.loads(subprocess.check_output([prefix / "agent.pyz", "facts"]))
    assert "limit" not in {handler["name"] for handler in said["handlers"]}
    assert [each["name"] for each in said["absent_handlers"]] == ["limit"]
    assert site.play(PROVISION, **without).succeeded().count("good", "changed") == 0


def test_a_wrong_checksum_is_refused_with_file_sums_and_remedy(site: Site) -> None:
    prefix = site.add("web")
    cached = site.cache / "fcgi-sweep" / "archives" / "lighttpd-9.9.1.tar.xz"
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(b"something else")
    outcome = site.play(PROVISION)
    assert outcome.exit_code != 0
    assert f"wrong checksum: {cached}" in outcome.text
    assert f"expected sha256 {site.archives['lighttpd-9.9.1']['sha256']}" in outcome.text
    assert "Remedy: if the file is damaged, delete it" in outcome.text
    assert not prefix.exists()


def test_a_failed_build_shows_its_log_and_the_next_run_mends_it(site: Site) -> None:
    prefix = site.add("web")
    site.broken.touch()
    outcome = site.play(PROVISION)
    assert outcome.exit_code != 0
    assert "the moon is in the wrong phase" in outcome.text
    assert "Remedy: mend what they name" in outcome.text
    assert not (prefix / "manifest.json").exists()
    site.broken.unlink()
    site.play(PROVISION).succeeded()
    assert site.manifest("web")["lighttpd"][0]["version"] == "9.9.1"


def test_no_host_in_reach_is_a_failure(site: Site) -> None:
    site.add("gone", ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=1)
    outcome = site.play(PROVISION)
    assert outcome.exit_code != 0
    assert "1 of 1 hosts did not go through" in outcome.text


def test_wrong_settings_are_refused_before_anything_is_done(site: Site) -> None:
    site.add("flavour", fcgi_sweep_pcre_flavour="pcre3")
    site.add("type", fcgi_sweep_lighttpd_versions={"version": 1})
    site.add("system", fcgi_sweep_prefix="/usr")
    site.add("long", fcgi_sweep_prefix="/tmp/" + "x" * 80)
    site.add("lock", fcgi_sweep_pythons=[{"version": "3.12.1", "gil": False}])
    outcome = site.play(PROVISION)
    assert outcome.exit_code != 0
    assert "value of fcgi_sweep_pcre_flavour must be one of: pcre2, pcre1" in outcome.text
    assert "cannot be converted to a list" in outcome.text
    assert "fcgi_sweep_prefix is '/usr'. It has to be a directory of its own" in outcome.text
    assert "at most 60 characters" in outcome.text
    assert [outcome.count(host, "changed") for host in site.hosts] == [0] * 5
    assert "asks for 3.12.1 without the global interpreter lock" in outcome.text


def test_teardown_leaves_the_file_system_as_it_was(site: Site) -> None:
    home = site.directory / "home"
    home.mkdir()
    (home / "notes").write_text("keep")
    site.add("web", fcgi_sweep_prefix=str(home / ".fcgi-sweep"))
    foreign = site.add("foreign")
    foreign.mkdir()
    (foreign / "thesis").write_text("ten years")
    before = tree(home)
    outcome = site.play(PROVISION)
    assert outcome.count("web", "failed") == 0
    assert "was not made by fcgi-sweep" in outcome.text
    assert tree(home) != before
    site.play("playbooks/teardown.yml").succeeded()
    assert tree(home) == before
    assert tree(foreign) == {"thesis": b"ten years".hex()}


def test_verify_refuses_a_host_that_is_not_provisioned(site: Site) -> None:
    site.add("web")
    outcome = site.play("playbooks/verify.yml")
    assert outcome.exit_code != 0
    assert "it is not provisioned" in outcome.text
    assert "provision.yml -i inventory --limit web" in outcome.text
