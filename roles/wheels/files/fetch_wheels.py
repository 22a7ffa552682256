"""Put wheels into the controller's cache, each checked against its sha256.

Reads one JSON request on stdin and prints one JSON answer. A wheel with another checksum counts as missing
and is replaced. Several of these programs may run at once.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


class FetchError(Exception):
    """A wheel could not be had; the message says why and what to do."""


def missing(cache: Path, wheels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the wheels that are not in the cache as they should be."""

    def is_there(wheel: dict[str, Any]) -> bool:
        path = cache / wheel["file"]
        return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == wheel["sha256"]

    return [wheel for wheel in wheels if not is_there(wheel)]


def download(cache: Path, wheel: dict[str, Any]) -> None:
    """Let pip download one wheel, by its checksum; it appears in the cache at once or not at all."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    if "platform" in wheel:
        command += ["--platform", wheel["platform"], "--python-version", "3"]
    requirement = f"{wheel['name']}=={wheel['version']} --hash=sha256:{wheel['sha256']}\n"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".") as folder:
        done = subprocess.run(
            [*command, f"--dest={folder}", "--requirement=/dev/stdin"],
            input=requirement,
            capture_output=True,
            text=True,
            check=False,
        )
        got = Path(folder) / wheel["file"]
        if done.returncode != 0 or not got.exists():
            raise FetchError("".join(f"  {line}\n" for line in done.stderr.splitlines()[-10:]))
        got.replace(cache / wheel["file"])


def main() -> int:
    """Answer the request on stdin; exit 1 with reason and remedy on stderr when a wheel cannot be had."""
    request = json.load(sys.stdin)
    cache = Path(request["cache"]).expanduser()
    wanted = missing(cache, request["wheels"])
    for wheel in [] if request["dry_run"] else wanted:
        try:
            download(cache, wheel)
        except FetchError as error:
            still = missing(cache, request["wheels"])
            print(
                f"pip could not download {wheel['file']}:\n{error}"
                f"Remedy: put these files into {cache}/ on this controller and provision again:\n"
                + "\n".join(f"  {each['file']}  sha256 {each['sha256']}" for each in still),
                file=sys.stderr,
            )
            return 1
    print(json.dumps({"fetched": [wheel["file"] for wheel in wanted]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
