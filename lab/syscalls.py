"""The few Linux system calls that Python 3.11 does not offer."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2
CLONE_NEWNS = 0x20000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWPID = 0x20000000
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: Path | str, filesystem: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system.

    Raises
    ------
    OSError
        With the source, the target and the options in its text.
    """
    _checked(
        _libc.mount(
            source.encode(),
            os.fsencode(target),
            filesystem.encode() or None,
            ctypes.c_ulong(flags),
            options.encode() or None,
        ),
        f"mount {filesystem or 'bind'} {source} on {target} ({options or hex(flags)})",
    )


def unmount(target: Path | str, flags: int = 0) -> None:
    """Take a mount away (``MNT_DETACH``: as soon as nobody uses it)."""
    _checked(_libc.umount2(os.fsencode(target), flags), f"unmount {target}")


def unshare(flags: int) -> None:
    """Give this process namespaces of its own (a pid namespace: its children)."""
    _checked(_libc.unshare(flags), f"unshare {flags:#x}")


def enter_namespace(path: Path | str) -> None:
    """Move this process into the namespace that `path` stands for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(descriptor, 0), f"enter namespace {path}")
    finally:
        os.close(descriptor)


def pivot_root(new_root: Path | str, old_root: Path | str) -> None:
    """Make `new_root` the root of this mount namespace and put the old one at `old_root`."""
    _checked(_libc.pivot_root(os.fsencode(new_root), os.fsencode(old_root)), f"pivot_root {new_root}")


def adopt_orphans() -> None:
    """Become the parent of every orphan among this process's descendants."""
    _checked(_libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0), "prctl PR_SET_CHILD_SUBREAPER")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send `signal_number` to this process when its parent dies."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number), 0, 0, 0), "prctl PR_SET_PDEATHSIG")
