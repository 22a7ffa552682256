"""From a bare host to a verified one, against a plain shell script: `python benchmarks/provision_speed.py`.

Each pair makes the same bare Debian lab host twice. Once the two playbooks provision and verify it; once a
script over ssh installs the same packages, copies the same archives and runs the same configure and make, as
read from what provisioning left on the host. The script makes no Python environment and proves nothing. The
source archives are in the controller's cache for both; the packages come from the mirror for both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import Lab
from lab.host import LabHost

ROOT = Path(__file__).resolve().parents[1]
ARCHIVES = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fcgi-sweep" / "archives"
UNPACK = "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])"
PREFIX = "/home/bench/.fcgi-sweep"
LAB = "psb"


@dataclass(frozen=True)
class Work:
    """What provisioning did on a host, for the script to do the same: packages, builds in order."""

    packages: list[str]
    builds: dict[str, str]


@contextmanager
def bare_host(rootfs: str, directory: Path) -> Iterator[tuple[LabHost, Path]]:
    """Make a host that has sshd and Python and nothing else; yield it and its inventory."""
    inventory = directory / "host.yml"
    cores = min(2, len(os.sched_getaffinity(0)))
    with Lab(LAB, (cores,), rootfs, inventory=inventory) as lab:
        host = lab.host(str(cores))
        host.wait_ready()
        yield host, inventory


def playbooks(inventory: Path, directory: Path) -> dict[str, float]:
    """Provision and verify the hosts of an inventory; return the seconds of each."""
    program = Path(sys.executable).with_name("ansible-playbook")
    seconds = {}
    for name, playbook in (("provision", "provision.yml"), ("verify", "playbooks/verify.yml")):
        started_s = time.monotonic()
        subprocess.run(
            [program, playbook, "-i", "inventory", "-i", inventory, "--limit", "lab"],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(directory / "facts")},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        seconds[name] = time.monotonic() - started_s
    return seconds


def said(host: LabHost, command: str) -> str:
    """Return what a command prints on the host; it has to succeed."""
    done = host.ssh([command], timeout_s=1800)
    if done.returncode:
        sys.exit(f"{host.name}: {command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def work_done(host: LabHost) -> Work:
    """Read what provisioning did on a host."""
    packages = json.loads(said(host, f"cat {PREFIX}/packages-*.json"))
    scripts = said(host, f"ls -tr {PREFIX}/src/*.sh").split()
    return Work(packages, {path: said(host, f"cat {path}") for path in scripts})


def plain_script(host: LabHost, work: Work) -> float:
    """Do the same work by hand; return its seconds."""
    started_s = time.monotonic()
    said(host, "sudo apt-get update -qq")
    said(
        host,
        "sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "
        + " ".join(work.packages),
    )
    for script, text in work.builds.items():
        tree = script.removesuffix(".sh")
        said(host, f"mkdir -p {tree}.unpacked")
        copy(host, archive_of(Path(tree).name), f"{tree}.archive")
        said(host, f"python3 -c '{UNPACK}' {tree}.archive {tree}.unpacked && mv {tree}.unpacked/* {tree}")
        said(host, f"cat >{script} <<'END-OF-BUILD'\n{text}\nEND-OF-BUILD\nsh {script}")
    return time.monotonic() - started_s


def archive_of(build: str) -> Path:
    """Return the archive in the cache from which a build such as `lighttpd-1.4.79-pcre2-10.46` is made."""
    name = "-".join(build.split("-")[:2])
    return next(ARCHIVES.glob(f"{name}.tar.*"))


def copy(host: LabHost, source: Path, target: str) -> None:
    """Copy a file to the host."""
    subprocess.run(["scp", "-q", "-F", host.state.ssh_config, source, f"{host.name}:{target}"], check=True)


def main() -> None:
    """Measure pairs in alternating order and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--rootfs", default="debian:bookworm")
    arguments = parser.parse_args()
    work: Work | None = None
    ratios = []
    for number in range(arguments.pairs):
        seconds: dict[str, float] = {}
        # the script can only follow the first time: it does what provisioning did
        for arm in ("playbooks", "script") if number % 2 == 0 else ("script", "playbooks"):
            with tempfile.TemporaryDirectory() as folder, bare_host(arguments.rootfs, Path(folder)) as bare:
                host, inventory = bare
                if arm == "playbooks":
                    seconds.update(playbooks(inventory, Path(folder)))
                    work = work_done(host)
                elif work is not None:
                    seconds["script"] = plain_script(host, work)
        ratios.append((seconds["provision"] + seconds["verify"]) / seconds["script"])
        print(
            f"pair {number + 1}: provision {seconds['provision']:.1f} s + verify {seconds['verify']:.1f} s, "
            f"script {seconds['script']:.1f} s, ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"ratio {statistics.geometric_mean(ratios):.2f} (geometric mean of {len(ratios)} pairs)")


if __name__ == "__main__":
    main()
