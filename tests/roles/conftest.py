"""The playbooks on this machine, with archives that build in a second instead of a minute."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
RUN_TIMEOUT_S = 600

PCRE = {
    "CMakeLists.txt": """
cmake_minimum_required(VERSION 3.13)
project(PCRE2 C)
add_library(pcre2-8 SHARED pcre2.c)
install(TARGETS pcre2-8 DESTINATION lib)
""",
    "pcre2.c": "int pcre2_match_8(void) { return 8; }\n",
}
LIGHTTPD = {
    "CMakeLists.txt": """
cmake_minimum_required(VERSION 3.13)
project(lighttpd C)
get_filename_component(home ${CMAKE_INSTALL_PREFIX} DIRECTORY)
if(EXISTS "${home}.broken")
  message(FATAL_ERROR "the moon is in the wrong phase")
endif()
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/build)
add_executable(lighttpd main.c)
target_link_libraries(lighttpd ${CMAKE_INSTALL_RPATH}/libpcre2-8.so)
""",
    "main.c": "int pcre2_match_8(void);\nint main(void) { return pcre2_match_8() - 8; }\n",
}
# Programs of a host that lacks something: no libfcgi for the compiler, no CMake until a wheel brings one.
CC_WITHOUT_LIBFCGI = """#!/bin/sh
for word; do [ "$word" != -lfcgi ] || exit 1; done
PATH=${PATH#*/tools/bin:} exec cc "$@"
"""
NO_CMAKE = "#!/bin/sh\nexit 1\n"
CMAKE_OF_A_WHEEL = '#!/bin/sh\nPATH=${PATH#*/tools/bin:} exec cmake "$@"\n'
# Builds in a second: the system's Python, which there says another version and whether it has the lock.
PYTHON = {
    "configure": """#!/bin/sh
gil=True
for option; do
    case $option in
        --prefix=*) prefix=${option#--prefix=} ;;
        --disable-gil) gil=False ;;
    esac
done
printf 'prefix = %s\\ngil = %s\\n' "$prefix" "$gil" >Makefile
cat Makefile.in >>Makefile
""",
    "Makefile.in": """
all:
install:
\tmkdir -p $(prefix)/bin
\t/usr/bin/python3 -m venv --without-pip $(prefix)/base
\techo "import sys; sys._is_gil_enabled = lambda: $(gil);" \\
\t    "import platform; platform.python_version = lambda: '9.9.3'" \\
\t    >$(prefix)/fake.pth
\tcp $(prefix)/fake.pth $(prefix)/base/lib/python3.*/site-packages/
\tsed "s:@PREFIX@:$(prefix):" python3.in >$(prefix)/bin/python3
\tchmod +x $(prefix)/bin/python3
""",
    "python3.in": """#!/bin/sh
"@PREFIX@/base/bin/python" "$@" || exit
if [ "$1 $2" = "-m venv" ]; then
    for directory; do :; done
    cp "@PREFIX@/fake.pth" "$directory"/lib/python3.*/site-packages/
fi
""",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Playbooks start hundreds of processes: on a busy machine they outlive the suite's usual patience."""
    for item in items:
        if {"site", "fleet"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(RUN_TIMEOUT_S))
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.integration)


@dataclass(frozen=True)
class Outcome:
    """What one run of a playbook said."""

    exit_code: int
    text: str

    def count(self, host: str, what: str) -> int:
        """Return a number of the recap: ok, changed, failed or unreachable."""
        match = re.search(rf"^{re.escape(host)}\s+:.*?\b{what}=(\d+)", self.text, re.MULTILINE)
        assert match, f"no recap for {host} in:\n{self.text[-3000:]}"
        return int(match.group(1))

    def succeeded(self) -> Outcome:
        """Return this outcome, or fail the test with the end of its output."""
        assert self.exit_code == 0, self.text[-6000:]
        return self


@dataclass
class Site:
    """Hosts that are directories of this machine, and a controller's cache of its own."""

    directory: Path
    cache: Path
    project: Path
    archives: dict[str, Any]
    cmake: dict[str, str]
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, **variables: Any) -> Path:
        """Add a host and return its prefix."""
        prefix = self.directory / name
        self.hosts[name] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
            "fcgi_sweep_prefix": str(prefix),
            "fcgi_sweep_lighttpd_versions": ["9.9.1"],
            **variables,
        }
        return prefix

    def play(self, playbook: str, *arguments: str, **variables: Any) -> Outcome:
        """Run a playbook over the hosts."""
        inventory = self.directory / "hosts.json"
        inventory.write_text(json.dumps({"targets": {"hosts": self.hosts}}))
        given = {
            "source_archives_extra": self.archives,
            "fcgi_sweep_pcre2_version": "99.1",
            "bundles_project": str(self.project),
            "build_tools_catalogue": {platform.machine(): [self.cmake]},
            **variables,
        }
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                playbook,
                f"--inventory={inventory}",
                f"--extra-vars={json.dumps(given)}",
                *arguments,
            ],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_TIMEOUT_S,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.directory / "facts"),
                "ANSIBLE_NOCOLOR": "1",
                "XDG_CACHE_HOME": str(self.cache),
            },
        )
        return Outcome(done.returncode, done.stdout + done.stderr)

    def add_poor(self, name: str) -> Path:
        """Add a host without libfcgi and CMake, where nobody may install packages; return its prefix."""
        prefix = self.add(name, system_packages_become=False)
        for program, text in (("bin/cc", CC_WITHOUT_LIBFCGI), ("cmake/data/bin/cmake", NO_CMAKE)):
            path = prefix / "tools" / program
            path.parent.mkdir(parents=True)
            path.write_text(text)
            path.chmod(0o755)
        (prefix / "tools/bin/cmake").symlink_to("../cmake/data/bin/cmake")
        (prefix / ".fcgi-sweep").touch()
        return prefix

    def manifest(self, host: str) -> dict[str, Any]:
        """Return what provisioning wrote down on a host."""
        prefix = Path(self.hosts[host]["fcgi_sweep_prefix"])
        document: dict[str, Any] = json.loads((prefix / "manifest.json").read_text())
        return document


def pack(directory: Path, name: str, files: dict[str, str]) -> dict[str, Any]:
    """Write a source archive and return its entry for the catalogue."""
    path = directory / f"{name}.tar.xz"
    tree = directory / name
    tree.mkdir()
    for file, content in files.items():
        (tree / file).write_text(content)
        (tree / file).chmod(0o755)
    with tarfile.open(path, "w:xz") as archive:
        archive.add(tree, arcname=name)
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "urls": [path.as_uri()],
    }


def pack_wheel(directory: Path) -> dict[str, str]:
    """Write a wheel of CMake that calls the one of this machine; return its entry for the catalogue."""
    path = directory / "cmake-9.9-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("cmake/data/bin/cmake"), CMAKE_OF_A_WHEEL)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": "cmake", "version": "9.9", "file": path.name, "sha256": sha256, "platform": "any"}


@pytest.fixture(scope="session")
def cache() -> Iterator[Path]:
    """Cache of the controller: the wheels come from the package index once a session."""
    with tempfile.TemporaryDirectory(prefix="fs-cache-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the packages that go to the hosts, so that edits during a test change nothing."""
    copy = tmp_path_factory.mktemp("project")
    for package in ("agent", "fcgi_handlers"):
        shutil.copytree(PROJECT / package, copy / package)
    return copy


@contextmanager
def new_site(cache: Path, project: Path) -> Iterator[Site]:
    """Make a site without hosts; its paths are short, because unix sockets live below a prefix."""
    with tempfile.TemporaryDirectory(prefix="fs-") as name:
        directory = Path(name)
        upstream = directory / "upstream"
        upstream.mkdir()
        archives = {
            "pcre2-99.1": pack(upstream, "pcre2-99.1", PCRE),
            "lighttpd-9.9.1": pack(upstream, "lighttpd-9.9.1", LIGHTTPD),
            "lighttpd-9.9.0": pack(upstream, "lighttpd-9.9.0", LIGHTTPD),
            "cpython-9.9.3": pack(upstream, "cpython-9.9.3", PYTHON),
        }
        shutil.rmtree(cache / "fcgi-sweep" / "archives", ignore_errors=True)
        wheels = cache / "fcgi-sweep" / "wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        yield Site(directory, cache, project, archives, pack_wheel(wheels))


@pytest.fixture
def site(cache: Path, project: Path) -> Iterator[Site]:
    """A site without hosts."""
    with new_site(cache, project) as made:
        yield made


@dataclass
class Fleet:
    """A fleet after a first run.

    `good` and `home` were provisioned, `poor` has little, `sick` could not build lighttpd; `foreign`
    has a prefix with somebody's work, `gone` is off, `unknown` wants what nobody knows.
    """

    site: Site
    first: Outcome

    def path(self, name: str) -> Path:
        """Return the prefix of a host."""
        return Path(self.site.hosts[name]["fcgi_sweep_prefix"])


@pytest.fixture(scope="module")
def fleet(cache: Path, project: Path) -> Iterator[Fleet]:
    """Each kind of host in one fleet, and one run over all of it."""
    with new_site(cache, project) as site:
        site.add(
            "good",
            fcgi_sweep_lighttpd_versions=["9.9.1", "9.9.0"],
            fcgi_sweep_pythons=[{"version": "9.9.3"}, {"version": "9.9.3", "gil": False}],
        )
        home = site.directory / "home"
        home.mkdir()
        (home / "notes").write_text("keep")
        site.add("home", fcgi_sweep_prefix=str(home / ".fcgi-sweep"))
        site.add_poor("poor")
        site.add("sick").with_suffix(".broken").touch()
        foreign = site.add("foreign")
        foreign.mkdir()
        (foreign / "thesis").write_text("ten years")
        site.add("gone", ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=1)
        site.add("unknown", fcgi_sweep_lighttpd_versions=["1.4.1"])
        yield Fleet(site, site.play("provision.yml"))
