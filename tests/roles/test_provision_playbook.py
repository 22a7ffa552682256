"""Provisioning from end to end, on hosts that are directories of this machine."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Fleet, Outcome, Site

PROVISION = "provision.yml"
TEARDOWN = "playbooks/teardown.yml"


def tree(directory: Path) -> dict[str, str]:
    """Return every path below a directory with what it holds."""
    return {
        str(path.relative_to(directory)): path.read_bytes().hex() if path.is_file() else "directory"
        for path in sorted(directory.rglob("*"))
    }


def test_bad_hosts_do_not_stop_the_good_ones_and_are_named_with_the_next_step(fleet: Fleet) -> None:
    assert fleet.first.exit_code != 0
    for name in ("good", "home", "poor"):
        assert fleet.first.count(name, "failed") == 0
        assert fleet.site.manifest(name)["lighttpd"]
    summary = fleet.first.text[fleet.first.text.index("4 of 7 hosts did not go through") :]
    assert "gone: could not be reached" in summary
    assert "see why `ansible gone -i inventory -m ping -vvv` does not get through" in summary
    assert "No checksum is known for lighttpd-1.4.1" in summary
    assert "--limit unknown" in summary
    assert "Went through: good, home, poor" in summary


def test_the_manifest_says_what_stands_there(fleet: Fleet) -> None:
    prefix = fleet.path("good")
    manifest = fleet.site.manifest("good")
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
    assert manifest["handlers"]["native"].keys() == {"limit"}


def test_each_python_has_a_name_its_version_the_state_of_its_lock_and_flup(fleet: Fleet) -> None:
    system, *built = fleet.site.manifest("good")["python"]
    assert (system["name"], system["gil"], system["default"]) == ("system", True, True)
    assert [(each["name"], each["version"], each["gil"], each["default"]) for each in built] == [
        ("cpython-9.9.3", "9.9.3", True, False),
        ("cpython-9.9.3t", "9.9.3", False, False),
    ]
    for python in built:
        said = subprocess.check_output([python["path"], "-c", "import flup; print(flup.__file__)"], text=True)
        assert said.startswith(f"{fleet.path('good')}/{python['name']}/venv/")


def test_a_host_without_libfcgi_and_without_root_does_without_the_ceiling(fleet: Fleet) -> None:
    assert "limit, the ceiling of the FastCGI path, is absent on this host" in fleet.first.text
    assert "libfcgi-dev" in fleet.first.text
    assert fleet.first.count("poor", "rescued") == 0
    said = json.loads(subprocess.check_output([fleet.path("poor") / "agent.pyz", "facts"]))
    assert "limit" not in {handler["name"] for handler in said["handlers"]}
    assert [each["name"] for each in said["absent_handlers"]] == ["limit"]
    assert fleet.site.manifest("poor")["handlers"]["native"] == {}


def test_a_host_without_cmake_and_without_root_builds_with_that_of_a_wheel(fleet: Fleet) -> None:
    assert "[build_tools : Unpack the programs]" in fleet.first.text
    assert fleet.site.cmake["file"] in {path.name for path in (fleet.path("poor") / "wheels").iterdir()}
    assert fleet.site.manifest("poor")["lighttpd"]


def test_a_directory_of_somebody_else_is_left_alone(fleet: Fleet) -> None:
    assert "was not made by fcgi-sweep" in fleet.first.text
    assert tree(fleet.path("foreign")) == {"thesis": b"ten years".hex()}


def test_a_failed_build_shows_its_log_and_the_remedy(fleet: Fleet) -> None:
    assert "the moon is in the wrong phase" in fleet.first.text
    assert "Remedy: mend what they name" in fleet.first.text


@pytest.fixture(scope="module")
def again(fleet: Fleet) -> Outcome:
    """A second run, after `sick` was mended."""
    fleet.path("sick").with_suffix(".broken").unlink()
    return fleet.site.play(PROVISION, "--limit=good,poor,sick").succeeded()


def test_a_second_run_changes_nothing(again: Outcome) -> None:
    assert again.count("good", "changed") == 0
    assert again.count("poor", "changed") == 0


def test_after_a_failed_build_the_next_run_goes_on_from_there(fleet: Fleet, again: Outcome) -> None:
    assert again.count("sick", "changed") > 0
    assert fleet.site.manifest("sick")["lighttpd"][0]["version"] == "9.9.1"
    built = re.findall(r"TASK \[source_build : Begin the build of (\S+)\]", again.text)
    assert set(built) == {"lighttpd-9.9.1-pcre2-99.1"}


@pytest.fixture(scope="module")
def checked(fleet: Fleet, again: Outcome) -> Outcome:
    """A look at a host that is built, at one for which an input has changed since, and at a bare one."""
    fleet.site.hosts["sick"]["lighttpd_cmake_options"] = ["-Wno-dev"]
    fleet.site.add("bare", fcgi_sweep_pythons=[{"version": "9.9.3", "gil": False}])
    return fleet.site.play(PROVISION, "--limit=good,poor,sick,bare", "--check").succeeded()


def test_a_check_of_a_built_host_finds_nothing_to_do(checked: Outcome) -> None:
    assert checked.count("good", "changed") == 0
    assert checked.count("poor", "changed") == 0


def announced(outcome: Outcome, host: str) -> set[str]:
    """Return what a check said that it would build or compile on a host."""
    said = re.findall(rf'\[{host}\] => {{\s+"msg": "Would \w+ ([^ "]+)', outcome.text)
    return {Path(name).name for name in said}


def test_only_what_an_input_reaches_is_built_again(checked: Outcome) -> None:
    assert announced(checked, "sick") == {"lighttpd-9.9.1-pcre2-99.1"}


def test_a_check_of_a_bare_host_says_what_it_would_do_and_does_nothing(
    fleet: Fleet, checked: Outcome
) -> None:
    assert announced(checked, "bare") == {
        "pcre2-99.1", "lighttpd-9.9.1-pcre2-99.1", "cpython-9.9.3t", "venv", "handlers", "limit.c"
    }  # fmt: skip
    assert not fleet.path("bare").exists()


def test_teardown_leaves_the_file_system_as_it_was(fleet: Fleet) -> None:
    home = fleet.path("home").parent
    after = tree(home)
    assert {path.partition("/")[0] for path in after} == {"notes", ".fcgi-sweep"}
    teardown = fleet.site.play(TEARDOWN, "--limit=home,foreign", "--check").succeeded()
    assert teardown.count("home", "changed") > 0
    assert tree(home) == after
    fleet.site.play(TEARDOWN, "--limit=home,foreign").succeeded()
    assert tree(home) == {"notes": b"keep".hex()}
    assert tree(fleet.path("foreign")) == {"thesis": b"ten years".hex()}
    assert fleet.site.play(TEARDOWN, "--limit=home").succeeded().count("home", "changed") == 0


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


def test_verify_refuses_a_host_that_is_not_provisioned(site: Site) -> None:
    site.add("web")
    outcome = site.play("playbooks/verify.yml", "--check")
    assert outcome.exit_code != 0
    assert "it is not provisioned" in outcome.text
    assert "provision.yml -i inventory --limit web" in outcome.text
