"""Say in one go what stands at a prefix: whose it is, and the stamps of all that provisioning finished there.

Usage: look.py PREFIX. Prints ``{"state", "stamps": {path: text}, "agent_sha256"}``.
"""

import hashlib
import json
import sys
from pathlib import Path

prefix = Path(sys.argv[1])
if not prefix.parent.is_dir():
    state = "no-parent"
elif (prefix / ".fcgi-sweep").exists():
    state = "ours"
elif prefix.exists() and any(prefix.iterdir()):
    state = "foreign"
else:
    state = "free"
stamps = {}
if state == "ours":
    for pattern in ("*/.build-stamp", "*/venv/.build-stamp"):
        stamps.update((str(path), path.read_text(encoding="utf-8")) for path in prefix.glob(pattern))
agent = prefix / "agent.pyz"
agent_sha256 = hashlib.sha256(agent.read_bytes()).hexdigest() if agent.exists() else ""
print(json.dumps({"state": state, "stamps": stamps, "agent_sha256": agent_sha256}))
