"""What must not change while a run is measured, and what did. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MISSING = "(missing)"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not what it was.

    Attributes
    ----------
    what : str
        Its name, such as `hosts.lab-2core.kernel`.
    before, after : Any
        Both values.
    """

    what: str
    before: Any
    after: Any

    def to_json(self) -> dict[str, Any]:
        """Return the change as it goes into the journal."""
        return {"what": self.what, "before": self.before, "after": self.after}

    def __str__(self) -> str:
        return f"{self.what}: {_short(self.before)} -> {_short(self.after)}"


def changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> tuple[Change, ...]:
    """Compare two nested mappings leaf by leaf."""
    return tuple(_changes(before, after, prefix))


def _changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str) -> Iterator[Change]:
    for key in sorted({*before, *after}):
        old, new = before.get(key, MISSING), after.get(key, MISSING)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changes(old, new, f"{prefix}{key}.")
        elif old != new:
            yield Change(f"{prefix}{key}", old, new)


def _short(value: Any) -> str:
    text = str(value)
    # digests say nothing beyond their first characters
    return text[:12] if len(text) == 64 and text.isalnum() else text
