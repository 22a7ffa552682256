"""What provisioning left on a host, as it says itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional


def read(prefix: Path) -> Optional[dict[str, Any]]:
    """Return the manifest; None where provisioning has not been or has not come to its end."""
    try:
        manifest = json.loads((prefix / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def handlers_command(manifest: dict[str, Any], *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command line of the provisioned handlers and the environment it needs.

    It is to be run in the directory of the handlers (`handlers_directory`): Python looks there first.

    Raises
    ------
    LookupError
        The manifest names no default Python or no handlers.
    """
    defaults = [each["path"] for each in manifest["python"] if each.get("default")]
    return [defaults[0], "-m", "fcgi_handlers", *arguments], {"PYTHONPATH": manifest["handlers"]["path"]}


def handlers_directory(manifest: dict[str, Any]) -> str:
    """Return the directory that holds the handlers' package.

    Raises
    ------
    LookupError
        The manifest names no handlers.
    """
    path: str = manifest["handlers"]["path"]
    return path
