"""Which handlers and workloads exist, found in the handlers' source without importing it."""

from __future__ import annotations

import ast
import difflib
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fcgi_handlers

STATIC = "static"
"""The one level that is no handler: lighttpd serving a file, the ceiling."""
WORKLOAD = re.compile(r"([a-z0-9-]+)(?:\(([0-9]+(?:,[0-9]+)*)\))?")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What an experiment may name.

    Attributes
    ----------
    handlers : tuple of str
        Names of the concurrency models.
    workloads : mapping of str to tuple of str
        Names of the workloads, each with the units of its parameters: `cpu` has `us`, `hello` has none.
    promises : mapping of str to mapping
        What each handler's module says of it, as far as it says so in literals (`multiplexes`,
        `peak_in_process`).
    """

    handlers: tuple[str, ...]
    workloads: Mapping[str, tuple[str, ...]]
    promises: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def workload_problem(self, written: str) -> str | None:
        """Return what is wrong with a workload as written and what to do about it, None if nothing."""
        found = WORKLOAD.fullmatch(written)
        if found is None:
            begun = written.partition("(")[0]
            if begun in self.workloads and ")" not in written:  # YAML takes [mixed(500,5)] for two items
                form = _form(begun, self.workloads[begun])
                return f'workload {written!r} was cut off at a comma; write it in quotes, as "{form}"'
            return f"{written!r} is no workload; write a name, or a name and whole numbers as in cpu(500)"
        name, numbers = found[1], [each for each in (found[2] or "").split(",") if each]
        if name not in self.workloads:
            return f"unknown workload {name!r}; {suggestion(name, self.workloads)}"
        parameters = self.workloads[name]
        if numbers and len(numbers) != len(parameters):
            return f"workload {written!r} has {len(numbers)} parameters; write {_form(name, parameters)!r}"
        return None


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
    models, workloads = _modules(root / "models"), _modules(root / "workloads")
    return Catalogue(
        handlers=tuple(models),
        workloads={name: _parameters(path) for name, path in workloads.items()},
        promises={name: _promises(path) for name, path in models.items()},
    )


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return a hint at the name that was meant, or at all there are."""
    names = sorted(known)
    close = difflib.get_close_matches(word.lower(), names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}"


def _modules(directory: Path) -> dict[str, Path]:
    modules = pkgutil.iter_modules([str(directory)])
    names = sorted(m.name for m in modules if not m.name.startswith("_"))
    return {name.replace("_", "-"): directory / f"{name}.py" for name in names}


def _bound(module: Path, name: str) -> ast.expr | None:
    """Return the expression that a module binds to a name; None where it binds none."""
    for statement in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return statement.value
    return None


def _parameters(module: Path) -> tuple[str, ...]:
    value = _bound(module, "PARAMETERS")
    return () if value is None else tuple(str(name) for name in ast.literal_eval(value))


def _promises(module: Path) -> dict[str, Any]:
    value = _bound(module, "MODEL")
    keywords = value.keywords if isinstance(value, ast.Call) else []
    return {
        each.arg: each.value.value for each in keywords if each.arg and isinstance(each.value, ast.Constant)
    }


def _form(name: str, parameters: tuple[str, ...]) -> str:
    return f"{name}({','.join(parameters)})" if parameters else name
