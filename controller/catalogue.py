"""Which handlers and workloads exist, found in the handlers' source without importing it."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from pathlib import Path

import fcgi_handlers

STATIC = "static"
"""The one level that is no handler: lighttpd serving a file, the ceiling."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The names that an experiment may use for handlers and workloads."""

    handlers: tuple[str, ...]
    workloads: tuple[str, ...]


def load_catalogue(package: Path | None = None) -> Catalogue:
    """List the handlers and workloads of the handlers package.

    Parameters
    ----------
    package : Path, optional
        Directory that holds `models` and `workloads`; by default that of `fcgi_handlers`.

    Returns
    -------
    Catalogue
        Public names, sorted: the module `multiplexed_stock` is the handler `multiplexed-stock`.
    """
    root = package or Path(fcgi_handlers.__path__[0])
    return Catalogue(handlers=_public_names(root / "models"), workloads=_public_names(root / "workloads"))


def _public_names(directory: Path) -> tuple[str, ...]:
    modules = pkgutil.iter_modules([str(directory)])
    return tuple(sorted(m.name.replace("_", "-") for m in modules if not m.name.startswith("_")))
