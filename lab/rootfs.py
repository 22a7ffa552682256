"""The root file system of a lab host, built from inside its own mount namespace.

Everything lies on one tmpfs of limited size: the upper layer over the machine's (or a bare Debian's) files,
and the directories in which nothing of the machine may show through. It goes with the host's last process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab import documents, syscalls
from lab.errors import LabError

READY = "ready"  # what the first process of a host reports when the host can be used
# directories that start empty in every host, with their modes
FRESH = {
    "home": 0o755,
    "root": 0o700,
    "run": 0o755,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
    "mnt": 0o755,
    "media": 0o755,
}
ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SSHD_LOG = "/var/log/sshd.log"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
DISK_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay")
NO_SERVICES = "#!/bin/sh\n# packages must not start services here\nexit 101\n"


@dataclass(frozen=True, slots=True)
class RootPlan:
    """What the root of a host is made of.

    Attributes
    ----------
    scratch : str
        An empty directory to mount on; nothing of it is seen outside the host.
    lower : str
        The directory that shows through: ``/`` or a bare Debian.
    hidden : tuple of str
        Directories that must appear empty: the checkout, the lab's state, home directories.
    disk_bytes : int
        Size of the host's disk.
    files : dict
        Texts by path inside the host.
    host_key, authorized_key : str
        Private host key and public client key, as text.
    """

    hostname: str
    scratch: str
    lower: str
    hidden: tuple[str, ...]
    disk_bytes: int
    files: dict[str, str]
    host_key: str
    authorized_key: str
    machine_id: str


def disk_mounts(mountinfo: str) -> list[Path]:
    """Mount points below / that hold files of the system, outermost first.

    An overlay shows the file system of its lower directory only: each of these needs an overlay of its own.
    """
    found: list[Path] = []
    for line in mountinfo.splitlines():
        mounted, _, described = line.partition(" - ")
        point = Path(mounted.split()[4].replace("\\040", " "))
        if described.split()[0] in DISK_FILESYSTEMS and point != Path("/"):
            found.append(point)
    return sorted(set(found), key=lambda point: len(point.parts))


def is_below(path: Path, directories: Iterable[Path]) -> bool:
    """Whether `path` is one of the directories or lies in one."""
    return any(path == directory or directory in path.parents for directory in directories)


def build(plan: RootPlan) -> None:
    """Build the root and move into it. The caller has mount and pid namespaces of its own and is pid 1."""
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    scratch = Path(plan.scratch)
    fresh = [Path("/", name) for name in FRESH]
    hidden = [Path(path) for path in plan.hidden]
    extra = [
        point
        for point in (disk_mounts(Path("/proc/self/mountinfo").read_text()) if plan.lower == "/" else [])
        if point.is_dir()
        and not is_below(point, [*fresh, *hidden, Path("/sys"), Path("/proc"), Path("/dev")])
    ]
    size = f"size={plan.disk_bytes},mode=0755"
    syscalls.mount(f"lab-{plan.hostname}", scratch, "tmpfs", syscalls.MS_NODEV, size)
    root = scratch / "root"
    _overlay(scratch / "layers", plan.lower, root)
    for number, point in enumerate(extra):
        _overlay(scratch / f"layers{number}", str(point), root / point.relative_to("/"))
    for name, mode in FRESH.items():
        _cover(scratch / "fresh" / name, root / name, mode)
    for number, path in enumerate(hidden):
        inside = root / path.relative_to("/")
        if inside.is_dir() and not is_below(path, fresh):
            _cover(scratch / "hidden" / str(number), inside, 0o755)
    _kernel_mounts(root)
    _configure(root, plan)
    os.chdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".", syscalls.MNT_DETACH)
    os.chdir("/")


def _overlay(layers: Path, lower: str, target: Path) -> None:
    for part in ("upper", "work"):
        (layers / part).mkdir(parents=True)
    target.mkdir(parents=True, exist_ok=True)
    seen = Path(lower).stat()
    os.chown(layers / "upper", seen.st_uid, seen.st_gid)
    (layers / "upper").chmod(seen.st_mode & 0o7777)
    escaped = lower.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
    os.chdir(layers)  # the options have room for one page, and commas in them separate
    syscalls.mount("lab", target, "overlay", 0, f"lowerdir={escaped},upperdir=upper,workdir=work")


def _cover(source: Path, target: Path, mode: int) -> None:
    source.mkdir(parents=True)
    source.chmod(mode)
    target.mkdir(parents=True, exist_ok=True)
    syscalls.mount(str(source), target, flags=syscalls.MS_BIND)


def _kernel_mounts(root: Path) -> None:
    quiet = syscalls.MS_NOSUID | syscalls.MS_NOEXEC
    for name in ("proc", "sys", "dev"):
        (root / name).mkdir(exist_ok=True)
    syscalls.mount("proc", root / "proc", "proc", quiet | syscalls.MS_NODEV)
    syscalls.mount("sysfs", root / "sys", "sysfs", quiet | syscalls.MS_NODEV | syscalls.MS_RDONLY)
    dev = root / "dev"
    syscalls.mount("dev", dev, "tmpfs", quiet, "mode=0755,size=64k")
    for name in DEVICES:
        (dev / name).touch()
        syscalls.mount(f"/dev/{name}", dev / name, flags=syscalls.MS_BIND)
    for name, target in DEVICE_LINKS.items():
        (dev / name).symlink_to(target)
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    syscalls.mount("devpts", dev / "pts", "devpts", quiet, "newinstance,ptmxmode=0666,mode=0620,gid=5")
    syscalls.mount("shm", dev / "shm", "tmpfs", quiet | syscalls.MS_NODEV, "mode=1777")


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    if path.is_symlink():  # /etc/resolv.conf often leads into /run
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _configure(root: Path, plan: RootPlan) -> None:
    etc = root / "etc"
    for name, mode in {"lock": 0o1777, "sshd": 0o755, "user": 0o755}.items():
        (root / "run" / name).mkdir()
        (root / "run" / name).chmod(mode)
    (root / "run" / "utmp").touch(mode=0o664)
    (etc / "nologin").unlink(missing_ok=True)

    shell = "/bin/bash" if (root / "bin" / "bash").exists() else "/bin/sh"
    accounts = [(etc / name).read_text() for name in ("passwd", "group", "shadow")]
    passwd, group, shadow, uid = documents.add_user(accounts[0], accounts[1], accounts[2], shell)
    _write(etc / "passwd", passwd)
    _write(etc / "group", group)
    _write(etc / "shadow", shadow, 0o600)
    _write(etc / "sudoers", documents.SUDOERS, 0o440)
    _make_home(root / "home" / documents.USER, etc / "skel", uid)
    _write(root / "root" / ".bashrc", "")

    _write(etc / "hostname", f"{plan.hostname}\n")
    _write(etc / "machine-id", f"{plan.machine_id}\n", 0o444)
    _write(root / "usr" / "sbin" / "policy-rc.d", NO_SERVICES, 0o755)
    for name, text in plan.files.items():
        _write(root / name.lstrip("/"), text)

    # the machine's own host keys must not be seen, the rest of its ssh set-up must not be used
    shutil.rmtree(etc / "ssh", ignore_errors=True)
    _write(etc / "ssh" / "ssh_host_ed25519_key", plan.host_key, 0o600)
    _write(etc / "ssh" / "authorized_keys", f"{plan.authorized_key}\n")
    settings = {
        "HostKey": "/etc/ssh/ssh_host_ed25519_key",
        "AuthorizedKeysFile": "/etc/ssh/authorized_keys",
        "PidFile": "/run/sshd.pid",
        "SetEnv": "LANG=C.UTF-8",
    }
    _write(etc / "ssh" / "sshd_config", documents.sshd_config(settings))


def _make_home(home: Path, skeleton: Path, uid: int) -> None:
    home.mkdir(mode=0o700)
    if skeleton.is_dir():
        shutil.copytree(skeleton, home, dirs_exist_ok=True)
    (home / ".hushlogin").touch()
    for path in [home, *home.rglob("*")]:
        os.chown(path, uid, uid, follow_symlinks=False)


def start_sshd() -> None:
    """Start sshd in the background, from inside the host.

    Raises
    ------
    LabError
        With sshd's own words.
    """
    binary = shutil.which("sshd", path=ROOT_PATH)
    if binary is None:
        raise LabError("sshd is not installed in the root file system of the host")
    config = Path("/etc/ssh/sshd_config")
    # OpenSSH 9.8 and later shut a client out for a while after broken sessions, which tests break on purpose
    penalties = ["-o", "PerSourcePenalties=no"]

    def call(arguments: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [binary, "-f", str(config), *arguments],
            env={"PATH": ROOT_PATH},
            capture_output=True,
            text=True,
            check=False,
        )

    if call(["-t", *penalties]).returncode == 0:
        with config.open("a") as file:
            file.write("PerSourcePenalties no\n")
    done = call(["-E", SSHD_LOG])
    if done.returncode != 0:
        said = done.stderr.strip()
        with contextlib.suppress(FileNotFoundError):
            said += Path(SSHD_LOG).read_text()[-2000:]
        raise LabError(f"sshd did not start: {said}")
