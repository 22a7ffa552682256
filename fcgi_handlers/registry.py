"""Which models and workloads there are: the modules of two packages, found by looking."""

from __future__ import annotations

import importlib
import pkgutil
import re
from types import ModuleType

import fcgi_handlers.models
import fcgi_handlers.workloads
from fcgi_handlers.model import Model
from fcgi_handlers.workload import Workload

_WORKLOAD = re.compile(r"([a-z0-9-]+)(?:\(([0-9]+(?:,[0-9]+)*)\))?")


class UnknownName(ValueError):
    """A model or workload that does not exist."""


def _names(package: ModuleType) -> list[str]:
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__))


def _load(package: ModuleType, kind: str, name: str) -> ModuleType:
    names = _names(package)
    if name not in names:
        raise UnknownName(f"no {kind} is called {name!r}; there are: {', '.join(names)}")
    return importlib.import_module(f"{package.__name__}.{name.replace('-', '_')}")


def model_names() -> list[str]:
    """Return the names of all models, sorted."""
    return _names(fcgi_handlers.models)


def workload_names() -> list[str]:
    """Return the names of all workloads, sorted."""
    return _names(fcgi_handlers.workloads)


def load_model(name: str) -> Model:
    """Return the model called `name`.

    Raises
    ------
    UnknownName
        There is none; the message lists those that exist.
    """
    model: Model = _load(fcgi_handlers.models, "model", name).MODEL
    return model


def load_workload(name: str) -> Workload:
    """Return the workload called `name`, with or without parameters: `hello`, `cpu`, `cpu(500)`.

    Raises
    ------
    UnknownName
        There is none, or its parameters are others; the message says what there is.
    """
    found = _WORKLOAD.fullmatch(name)
    if found is None:
        raise UnknownName(f"{name!r} is no workload; write a name, or a name and numbers as in cpu(500)")
    module = _load(fcgi_handlers.workloads, "workload", found.group(1))
    values = [int(each) for each in (found.group(2) or "").split(",") if each]
    parameters: tuple[str, ...] = module.PARAMETERS
    if values and len(values) != len(parameters):
        wanted = f"{found.group(1)}({','.join(parameters)})" if parameters else f"{found.group(1)} alone"
        raise UnknownName(f"{name!r} has {len(values)} parameters; write {wanted}")
    workload: Workload = module.build(*values)
    return workload
