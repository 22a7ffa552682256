"""Root file systems for lab hosts: the machine's own, or a bare Debian."""

from __future__ import annotations

from lab.errors import LabError

OVERLAY = "overlay"


def prepare(rootfs: str) -> str:
    """Return the directory that shows through in a host."""
    if rootfs != OVERLAY:
        raise LabError(f"--rootfs {rootfs}: this version knows {OVERLAY} only")
    return "/"


def apt_files(rootfs: str) -> dict[str, str]:
    """Files of a bare host that let apt work in it; none where the machine's own show through."""
    del rootfs
    return {}
