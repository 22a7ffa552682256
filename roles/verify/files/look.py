"""Say in one go what verification has to know of a host.

Usage: look.py PREFIX. Prints ``{"manifest", "linked": {lighttpd: what ldd says}, "facts", "port"}``, where
facts are the agent's and the port is free; ``{"manifest": null}`` where provisioning did not come to its end.
"""

import json
import socket
import subprocess
import sys
from pathlib import Path


def said(*argv):
    """Return what a program prints; its errors go to ours."""
    return subprocess.check_output(argv, universal_newlines=True)


prefix = Path(sys.argv[1])
try:
    manifest = json.loads((prefix / "manifest.json").read_text(encoding="utf-8"))
except FileNotFoundError:
    print(json.dumps({"manifest": None}))
    sys.exit()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
known = {
    "manifest": manifest,
    "linked": {build["path"]: said("ldd", build["path"]) for build in manifest["lighttpd"]},
    "facts": json.loads(said(sys.executable, str(prefix / "agent.pyz"), "facts")),
    "port": port,
}
print(json.dumps(known))
