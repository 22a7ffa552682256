"""Root file systems for lab hosts: the machine's own, or a bare Debian made by debootstrap and kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import preflight
from lab.commands import run
from lab.errors import LabError
from lab.state import cache_home

OVERLAY = "overlay"
PACKAGES = (
    "openssh-server",
    "python3",
    "sudo",
)  # what ssh, Ansible and the lab's own user need; nothing else
SCRIPTS = Path("/usr/share/debootstrap/scripts")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TARGET_FORMAT = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
TIMEOUT_S = 1800.0
_ROOTFS = re.compile(r"debian:([a-z]+)")


def check_rootfs(rootfs: str) -> str:
    """Return `rootfs` if it is one that the lab can make."""
    if rootfs != OVERLAY and not _ROOTFS.fullmatch(rootfs):
        raise LabError(f"--rootfs {rootfs}: use {OVERLAY} or debian:<suite>, for example debian:bookworm")
    return rootfs


def choose_mirror(targets: str) -> str | None:
    """Choose the Debian mirror among what apt is configured to use.

    Parameters
    ----------
    targets : str
        Output of ``apt-get indextargets`` in `TARGET_FORMAT`.

    Returns
    -------
    str or None
        Address of a repository that holds whole releases; None when apt uses none.
    """
    for line in targets.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "main":
            address, release = words[0], words[1]
            partial = re.search(r"-(security|updates|backports|proposed|debug)|/", release)
            if not partial and address.rstrip("/").endswith("/debian"):
                return address
    return None


def apt_settings(dump: str) -> str:
    """Keep of ``apt-config dump`` what a host behind the same proxy needs."""
    wanted = re.compile(r"Acquire::(https?::)?Proxy\b|Acquire::https?::(CaInfo|Proxy)\b", re.IGNORECASE)
    return "".join(f"{line}\n" for line in dump.splitlines() if wanted.match(line) and '""' not in line)


def prepare(rootfs: str, say: Callable[[str], None]) -> str:
    """Return the directory that shows through in a host, made if need be.

    Parameters
    ----------
    rootfs : str
        ``overlay`` or ``debian:<suite>``.
    say : callable
        Told when something takes minutes.
    """
    match = _ROOTFS.fullmatch(check_rootfs(rootfs))
    if match is None:
        return "/"
    suite = match[1]
    key = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    store = cache_home() / "rootfs"
    final = store / f"debian-{suite}-{key}"
    store.mkdir(parents=True, exist_ok=True)
    with _alone(store):
        if not final.is_dir():
            preflight.require({"debootstrap": "debootstrap"})
            say(f"making a bare {rootfs} in {final} (once, some minutes)")
            partial = final.with_name(f".{final.name}.partial")
            _remove(partial)
            _debootstrap(suite, partial)
            partial.replace(final)
    return str(final)


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    descriptor = os.open(store, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove(tree: Path) -> None:
    if tree.exists():
        shutil.rmtree(tree)


def _debootstrap(suite: str, target: Path) -> None:
    mirror = choose_mirror(
        run(["apt-get", "indextargets", "--format", TARGET_FORMAT, "Created-By: Packages"])
    )
    if mirror is None:
        raise LabError(
            "apt on this machine uses no Debian mirror: a bare Debian host needs one in its sources"
        )
    if not KEYRING.exists():
        raise LabError("the lab needs a package that this machine lacks: debian-archive-keyring")
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", f"--keyring={KEYRING}"]
    command += [suite, str(target), mirror]
    if not (SCRIPTS / suite).exists():  # a release that is newer than the machine's debootstrap
        command.append(str(SCRIPTS / "sid"))
    # what it mounts and starts goes with it, also when this process is killed
    alone = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    log = target.with_suffix(".log")
    with log.open("wb") as output:
        done = subprocess.run(
            [*alone, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
    if done.returncode != 0:
        raise LabError(
            f"debootstrap of {suite} from {mirror} failed, exit {done.returncode}: "
            f"{log.read_text(errors='replace')[-800:].strip()} (all of it: {log})"
        )
    log.unlink()
    shutil.rmtree(target / "var" / "cache" / "apt" / "archives", ignore_errors=True)
    (target / "var" / "cache" / "apt" / "archives" / "partial").mkdir(parents=True)


def apt_files(rootfs: str) -> dict[str, str]:
    """Files of a bare host that let apt work in it; none where the machine's own show through."""
    if rootfs == OVERLAY:
        return {}
    return {"/etc/apt/apt.conf.d/90machine": apt_settings(run(["apt-config", "dump"]))}
