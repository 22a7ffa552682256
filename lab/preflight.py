"""What this machine must offer before a lab can be made on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

from lab.errors import LabError

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
# program -> Debian package
NEEDED = {"sshd": "openssh-server", "ssh": "openssh-client", "ssh-keygen": "openssh-client"}
NEEDED_AS_ROOT = {
    "ip": "iproute2",
    "nft": "nftables",
    "sudo": "sudo",
    "nsenter": "util-linux",
    "taskset": "util-linux",
}


def which(program: str) -> str | None:
    """Find a program, also where a plain user's PATH does not look."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")


def missing_packages(needed: Mapping[str, str]) -> list[str]:
    """Debian packages of the programs in `needed` that are not installed."""
    return sorted({package for program, package in needed.items() if which(program) is None})


def require(*groups: Mapping[str, str]) -> None:
    """Refuse to go on without the programs of all groups.

    Raises
    ------
    LabError
        Names every missing package and the command that installs them.
    """
    needed = {program: package for group in groups for program, package in group.items()}
    packages = missing_packages(needed)
    if packages:
        sudo = "" if os.geteuid() == 0 else "sudo "
        raise LabError(
            f"the lab needs packages that this machine lacks: {' '.join(packages)}; "
            f"install them with: {sudo}apt-get install -y {' '.join(packages)}"
        )


def namespaces_refused() -> str | None:
    """Why namespaces are not to be had here; None when they are."""
    if sys.platform != "linux":
        return f"this is {sys.platform}, not Linux"
    if os.geteuid() != 0:
        return "this user is not root"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else tried.stderr.strip()
