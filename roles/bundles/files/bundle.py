"""Pack a Python package into one zip file whose bytes depend on nothing but the package's files.

Timestamps, owners and the order of directory entries stay out: the same sources give the same file on every
controller, and a second provisioning changes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)
START = """import runpy

runpy.run_module({package!r}, run_name="__main__", alter_sys=True)
"""


def members(package: Path) -> dict[str, bytes]:
    """Return the package's files by archive name, without byte code and editor leftovers."""
    found = {}
    for path in sorted(package.rglob("*")):
        parts = path.relative_to(package).parts
        if path.is_file() and not any(part == "__pycache__" or part.startswith(".") for part in parts):
            found["/".join((package.name, *parts))] = path.read_bytes()
    return found


def fingerprint(files: dict[str, bytes]) -> str:
    """Return the sha256 over file names and contents; the agent says the same one of itself."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return digest.hexdigest()


def write(target: Path, package: str, files: dict[str, bytes], runnable: bool) -> None:
    """Write the zip file, which replaces what was there; a runnable one starts the package's ``__main__``."""
    entries = dict(files)
    if runnable:
        entries["__main__.py"] = START.format(package=package).encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    with draft.open("wb") as stream:
        if runnable:
            stream.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(entries):
                archive.writestr(zipfile.ZipInfo(name, EPOCH), entries[name])
    draft.replace(target)


def main() -> int:
    """Write the bundle of a package; print its path, sum and fingerprint as JSON."""
    parser = argparse.ArgumentParser(description="Pack a Python package into one zip file.")
    parser.add_argument("package", type=Path, help="directory of the package")
    parser.add_argument("target", type=Path, help="file to write")
    parser.add_argument("--runnable", action="store_true", help="make a zipapp that runs the package")
    arguments = parser.parse_args()
    files = members(arguments.package)
    if not files:
        print(f"{arguments.package}: no such package; provision from a complete checkout", file=sys.stderr)
        return 1
    write(arguments.target, arguments.package.name, files, arguments.runnable)
    sha256 = hashlib.sha256(arguments.target.read_bytes()).hexdigest()
    print(json.dumps({"path": str(arguments.target), "sha256": sha256, "fingerprint": fingerprint(files)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
