"""Pack a Python package into one file whose bytes depend on nothing but the package's sources.

Timestamps, owners and the order of directory entries stay out, so that the same sources give the same sha256
on every controller and a second provisioning changes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import zipfile
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)
SHEBANG = b"#!/usr/bin/env python3\n"
RUN_PACKAGE = "import runpy\n\nrunpy.run_module({name!r}, run_name='__main__', alter_sys=True)\n"


def members(package: Path) -> dict[str, bytes]:
    """Return the package's files by archive name, without byte code and editor leftovers."""
    found = {}
    for path in sorted(package.rglob("*")):
        parts = path.relative_to(package).parts
        if path.is_file() and not any(part == "__pycache__" or part.startswith(".") for part in parts):
            found["/".join((package.name, *parts))] = path.read_bytes()
    return found


def pack(package: Path, runnable: bool) -> bytes:
    """Return the zip file of a package; a runnable one starts the package's ``__main__``."""
    files = members(package)
    if runnable:
        files["__main__.py"] = RUN_PACKAGE.format(name=package.name).encode()
    buffer = io.BytesIO()
    if runnable:
        buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a" if runnable else "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def fingerprint(package: Path) -> str:
    """Return the sha256 over the package's file names and contents."""
    digest = hashlib.sha256()
    for name, content in sorted(members(package).items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def main() -> int:
    """Write the bundle unless it is there; print its path, its fingerprint and whether it was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path, help="directory of the package")
    parser.add_argument("target", type=Path, help="file to write")
    parser.add_argument("--runnable", action="store_true", help="make a zipapp that runs the package")
    arguments = parser.parse_args()
    if not members(arguments.package):
        print(
            f"{arguments.package}: no such package; provision from a complete checkout of fcgi-sweep",
            file=sys.stderr,
        )
        return 1
    content = pack(arguments.package, arguments.runnable)
    target: Path = arguments.target
    due = not target.exists() or target.read_bytes() != content
    if due:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        fresh.write_bytes(content)
        fresh.replace(target)
    print(json.dumps({"path": str(target), "fingerprint": fingerprint(arguments.package), "written": due}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
