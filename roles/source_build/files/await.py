"""Wait until builds in the background of this host have ended.

Reads ``{"builds": [{"name", "prefix", "tree", "fingerprint"}], "log_lines"}`` on stdin. When one failed, it
says why and exits with 1.
"""

import fcntl
import json
import sys
from pathlib import Path

known = json.load(sys.stdin)
for build in known["builds"]:
    # locked as long as the build lasts
    with Path(build["tree"] + ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
    stamp, log = Path(build["prefix"], ".build-stamp"), Path(build["tree"] + ".log")
    if not stamp.exists() or json.loads(stamp.read_text())["fingerprint"] != build["fingerprint"]:
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        print("{name} could not be built on this host.".format(**build))
        print("\n".join(lines[-known["log_lines"] :]))
        print(f"The last {known['log_lines']} lines of {log} are above.")
        print(
            "Remedy: mend what they name (disk space, a missing program or header), then provision this host"
            " again; it starts clean."
        )
        sys.exit(1)
