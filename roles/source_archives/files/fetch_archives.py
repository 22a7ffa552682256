"""Put source archives into the controller's cache, each checked against its sha256.

Reads one JSON request on stdin and prints one JSON answer. An archive comes from the cache, else from its
upstream address, else from the Debian source package of the same version.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBIAN_SUITES = ("bullseye", "bookworm", "trixie", "sid")


class FetchError(Exception):
    """An archive could not be had; the message says why and what to do."""


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def download(url: str, target: Path, timeout_s: float) -> None:
    """Copy what `url` gives to `target`; the timeout holds for each silence."""
    if not url.startswith(("https://", "http://", "file://")):
        raise FetchError(f"{url}: only https, http and file addresses are fetched")
    with urllib.request.urlopen(url, timeout=timeout_s) as answer, target.open("wb") as stream:  # noqa: S310
        shutil.copyfileobj(answer, stream)


def os_release() -> dict[str, str]:
    """Return the fields of this machine's /etc/os-release."""
    path = Path("/etc/os-release")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {key: value.strip("'\"") for key, _, value in (line.partition("=") for line in lines)}


def debian_mirrors() -> dict[str, str]:
    """Return the addresses this machine's apt uses: `main` and, where configured, `security`."""
    release = os_release()
    if release.get("ID") != "debian" or not shutil.which("apt-get"):
        raise FetchError("this controller is no Debian machine")
    codename = release.get("VERSION_CODENAME", "")
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)"],
        capture_output=True,
        text=True,
        check=True,
    )
    mirrors: dict[str, str] = {}
    for line in targets.stdout.splitlines():
        uri, _, suite = line.partition("|")
        if suite == codename:
            mirrors.setdefault("main", uri)
        elif suite == f"{codename}-security":
            mirrors.setdefault("security", uri)
    if "main" not in mirrors:
        raise FetchError(f"apt on this controller knows no mirror of Debian {codename}")
    return mirrors


class DebianSources:
    """Debian's source packages, read through an apt that sees only a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.listed: set[tuple[str, str]] = set()

    def apt(self, command: str, *arguments: str, cwd: Path | None = None) -> str:
        """Run one apt command against the private directory and return its stdout."""
        options = {
            "Dir::Etc::sourcelist": self.directory / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State": self.directory / "state",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": self.directory / "cache",
            "APT::Sandbox::User": "root",
            # a controller without a network is told so in seconds, and by the reason, not by its consequence
            "Acquire::Retries": "1",
            "APT::Update::Error-Mode": "any",
        }
        argv = [command, *(f"-o{name}={value}" for name, value in options.items()), *arguments]
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, "LC_ALL": "C"}
        )
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            raise FetchError(errors[0] if errors else f"{command} ended with exit code {done.returncode}")
        return done.stdout

    def list_suite(self, mirror: str, suite: str) -> None:
        """Make one suite of one mirror the only one that apt sees."""
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        signed_by = f"[signed-by={DEBIAN_KEYRING}] " if DEBIAN_KEYRING.exists() else ""
        (self.directory / "sources.list").write_text(
            f"deb-src {signed_by}{mirror} {suite} main\n", encoding="utf-8"
        )
        self.apt("apt-get", "update", "-qq")

    def version_with(self, package: str, sha256: str) -> str | None:
        """Return the package version in the listed suite whose files include one with this sha256."""
        version = None
        for line in self.apt("apt-cache", "showsrc", "--only-source", package).splitlines():
            if line.startswith("Version: "):
                version = line.split()[1]
            elif line.startswith(f" {sha256} "):
                return version
        return None

    def fetch(self, package: str, suites: list[str], sha256: str, target: Path) -> None:
        """Copy the orig tarball with this sha256 to `target`, from the first suite that has it."""
        mirrors = debian_mirrors()
        problems = []
        others = [suite for suite in DEBIAN_SUITES if suite not in suites]
        places = [(suite, "main") for suite in suites]
        places += [(f"{suite}-security", "security") for suite in suites]
        places += [(suite, "main") for suite in others]
        for suite, kind in places:
            if kind not in mirrors:
                continue
            try:
                self.list_suite(mirrors[kind], suite)
                version = self.version_with(package, sha256)
                if version is None:
                    problems.append(f"{suite}: no version of {package} has this file")
                    continue
                with tempfile.TemporaryDirectory(dir=self.directory) as folder:
                    self.apt(
                        "apt-get",
                        "source",
                        "-qq",
                        "--download-only",
                        "--tar-only",
                        f"{package}={version}",
                        cwd=Path(folder),
                    )
                    match = next((path for path in Path(folder).iterdir() if sha256_of(path) == sha256), None)
                    if match is not None:
                        shutil.copyfile(match, target)
                        return
                    problems.append(
                        f"{suite}: {package} {version} does not hold the file that its index promises"
                    )
            except FetchError as error:
                problems.append(f"{suite}: {error}")
        raise FetchError("; ".join(problems))


def mismatch(path: Path, expected: str, got: str) -> str:
    """Say that a file has the wrong checksum, and what to do about it."""
    return (
        f"wrong checksum: {path}\n  expected sha256 {expected}\n  got             {got}\n"
        "  Remedy: if the file is damaged, delete it and provision again; if another file is meant, put its\n"
        "  sha256 into its entry of source_archives_extra (inventory/group_vars/all.yml)."
    )


def fetch(
    name: str, archive: dict[str, Any], cached: Path, request: dict[str, Any], debian: DebianSources
) -> str:
    """Bring one archive into the cache and return the name of the source that had it."""
    problems = []
    fresh = cached.with_name(f".{cached.name}.{os.getpid()}")
    attempts: list[tuple[str, Any]] = []
    if "upstream" in request["sources"]:
        timeout_s = float(request["upstream_timeout_s"])
        attempts += [
            (url, lambda url=url: download(url, fresh, timeout_s)) for url in archive.get("urls", [])
        ]
    if "debian" in request["sources"] and "debian" in archive:
        package = archive["debian"]
        attempts.append(
            (
                f"Debian source package {package['package']}",
                lambda: debian.fetch(
                    package["package"], list(package.get("suites", [])), archive["sha256"], fresh
                ),
            )
        )
    try:
        for source, attempt in attempts:
            try:
                attempt()
            except (FetchError, OSError, subprocess.SubprocessError) as error:
                problems.append(f"{source}: {error}")
                continue
            got = sha256_of(fresh)
            if got == archive["sha256"]:
                fresh.replace(cached)
                return source
            problems.append(f"{source}: " + mismatch(Path(archive["file"]), archive["sha256"], got))
    finally:
        fresh.unlink(missing_ok=True)
    raise FetchError(
        f"no source has {name} ({archive['file']}, sha256 {archive['sha256']}):\n"
        + "".join(
            f"  - {problem}\n" for problem in problems or ["no source is allowed (source_archives_sources)"]
        )
        + f"  Remedy: put {archive['file']} into {cached.parent}/ yourself and provision again."
    )


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what the request asks for and return the answer."""
    cache = Path(request["cache"]).expanduser()
    archives: dict[str, dict[str, str]] = {}
    fetched: list[str] = []
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fcgi-sweep-apt-") as folder:
        debian = DebianSources(Path(folder))
        for item in request["archives"]:
            name, archive = item["name"], item["archive"]
            cached = cache / archive["file"]
            source = "cache"
            try:
                if cached.exists():
                    got = sha256_of(cached)
                    if got != archive["sha256"]:
                        raise FetchError(mismatch(cached, archive["sha256"], got))
                elif request.get("dry_run"):
                    source = "nowhere yet"
                    fetched.append(name)
                else:
                    cache.mkdir(parents=True, exist_ok=True)
                    source = fetch(name, archive, cached, request, debian)
                    fetched.append(name)
            except FetchError as error:
                problems.append(str(error))
                continue
            archives[name] = {"path": str(cached), "sha256": archive["sha256"], "source": source}
    if problems:
        raise FetchError("\n".join(problems))
    return {"archives": archives, "fetched": fetched}


def main() -> int:
    """Answer the request on stdin; exit 1 with the reasons on stderr when an archive cannot be had."""
    try:
        print(json.dumps(answer(json.load(sys.stdin)), sort_keys=True))
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
