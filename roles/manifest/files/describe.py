"""Describe what provisioning left below a prefix, as the manifest of the host.

Reads ``{"prefix", "wanted", "python", "handlers_fingerprint", "agent_fingerprint"}`` on stdin,
looks at what is really there and prints the manifest.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

LOAD_GENERATORS = {"ab": ["-V"], "wrk": ["-v"], "h2load": ["--version"]}


def said_by(argv):
    """Return all that a program prints; some print their version on stderr or with a non-zero exit."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout.decode("utf-8", "replace")


def lighttpd_builds(prefix, wanted):
    """Return every finished lighttpd below the prefix: what is wanted, in its order, then older ones."""
    builds = []
    for stamp in prefix.glob("lighttpd-*/.build-stamp"):
        facts = json.loads(stamp.read_text(encoding="utf-8"))
        home = stamp.parent
        builds.append(
            {
                "version": facts["version"],
                "path": str(home / "sbin" / "lighttpd"),
                "modules": str(home / "lib" / "lighttpd"),
                "fingerprint": facts["fingerprint"],
                "pcre_flavour": facts["pcre_flavour"],
                "pcre_version": facts["pcre_version"],
                "default": str(home) == wanted[0],
            }
        )
    rank = {home: position for position, home in enumerate(wanted)}
    return sorted(
        builds, key=lambda build: (rank.get(build["path"].rsplit("/", 2)[0], len(rank)), build["path"])
    )


def python_environment(name, path, default):
    """Return one interpreter of the handlers, with its version and whether it has the global lock."""
    code = "import json, platform, sys; gil = getattr(sys, '_is_gil_enabled', lambda: True)();"
    code += "print(json.dumps([platform.python_version(), gil]))"
    version, gil = json.loads(subprocess.check_output([path, "-c", code]))
    return {"name": name, "path": path, "version": version, "gil": gil, "default": default}


def load_generators():
    """Return the load generators on PATH with path and version."""
    present = {}
    for name, arguments in LOAD_GENERATORS.items():
        path = shutil.which(name)
        if path:
            version = re.search(r"\d+(\.\d+)+", said_by([path, *arguments]))
            present[name] = {"path": path, "version": version.group() if version else None}
    return present


def main():
    """Print the manifest."""
    known = json.load(sys.stdin)
    prefix = Path(known["prefix"])
    manifest = {
        "schema": 1,
        "prefix": str(prefix),
        "lighttpd": lighttpd_builds(prefix, known["wanted"]),
        "python": [python_environment(**entry) for entry in known["python"]],
        "handlers": {"path": str(prefix / "handlers"), "fingerprint": known["handlers_fingerprint"]},
        "agent": {"path": str(prefix / "agent.pyz"), "fingerprint": known["agent_fingerprint"]},
        "load_generators": load_generators(),
    }
    print(json.dumps(manifest, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
