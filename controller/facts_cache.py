"""What hosts said about themselves the last time they were asked, so that planning need not ask them."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from controller.files import write_json
from controller.host_facts import HostFacts
from controller.inventory import Host


def cache_directory() -> Path:
    """Return the directory of remembered facts."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "fcgi-sweep" / "facts"


def remember_facts(host: Host, facts: HostFacts) -> None:
    """Keep the facts of a host. A cache that cannot be written is no reason to stop."""
    with contextlib.suppress(OSError):
        cache_directory().mkdir(parents=True, exist_ok=True)
        document = {"address": host.address, "facts": facts.document}
        write_json(cache_directory() / f"{host.name}.json", document)


def remembered_facts(host: Host) -> HostFacts | None:
    """Return the facts of a host of that name and address, None if it was never asked."""
    try:
        document = json.loads((cache_directory() / f"{host.name}.json").read_text(encoding="utf-8"))
        return HostFacts(document["facts"]) if document["address"] == host.address else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
