"""Describe what provisioning left below a prefix, as the manifest of the host.

Reads ``{"prefix", "wanted", "python", "handlers_fingerprint", "agent_fingerprint"}`` on stdin,
looks at what is really there and writes ``manifest.json``. Prints ``written``, or ``unchanged`` when it stood
there already.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

LOAD_GENERATORS = {"ab": ["-V"], "wrk": ["-v"], "h2load": ["--version"]}

# An extension that knows nothing of life without the global lock switches it on again: all that a handler may
# import is there when the interpreter is asked.
ASK_PYTHON = """
import json, platform, sys
from fcgi_handlers import registry
for model in registry.model_names():
    registry.load_model(model)
gil = getattr(sys, "_is_gil_enabled", lambda: True)()
print(json.dumps([platform.python_version(), gil]))
"""


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


def python_environment(handlers, name, path, default):
    """Return one interpreter of the handlers: its version, and whether they run under the global lock."""
    environment = {**os.environ, "PYTHONPATH": str(handlers)}
    said = subprocess.check_output([path, "-c", ASK_PYTHON], env=environment)
    version, gil = json.loads(said)
    return {"name": name, "path": path, "version": version, "gil": gil, "default": default}


def native_programs(handlers):
    """Return the sums of the handlers that a compiler of this host made."""
    sources = handlers.glob("*/native/*.c")
    programs = [source.with_suffix("") for source in sources if source.with_suffix("").exists()]
    return {program.name: hashlib.sha256(program.read_bytes()).hexdigest() for program in programs}


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
    """Write the manifest."""
    known = json.load(sys.stdin)
    prefix = Path(known["prefix"])
    handlers = prefix / "handlers"
    manifest = {
        "schema": 1,
        "prefix": str(prefix),
        "lighttpd": lighttpd_builds(prefix, known["wanted"]),
        "python": [python_environment(handlers, **entry) for entry in known["python"]],
        "handlers": {
            "path": str(handlers),
            "fingerprint": known["handlers_fingerprint"],
            "native": native_programs(handlers),
        },
        "agent": {"path": str(prefix / "agent.pyz"), "fingerprint": known["agent_fingerprint"]},
        "load_generators": load_generators(),
    }
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    target = prefix / "manifest.json"
    if target.exists() and target.read_text(encoding="utf-8") == text:
        print("unchanged")
        return
    draft = prefix / ".manifest.json.new"
    draft.write_text(text, encoding="utf-8")
    draft.replace(target)
    print("written")


if __name__ == "__main__":
    main()
