"""The experiment file: what is asked, of which hosts, with which levels."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from controller.catalogue import STATIC, Catalogue, suggestion
from controller.errors import ExperimentError
from controller.levels import (
    ConcurrencyLevels,
    CoreLevels,
    Fraction,
    IdLevels,
    NameLevels,
    PlacementLevels,
    ProcessLevels,
    SwitchLevels,
)
from controller.yaml_lines import Location, YamlProblem, YamlText, parse_yaml

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,60}$"
WIRE = "fcgi"
"""The tool that drives handlers on their own sockets, without lighttpd."""


class Regime(NamedTuple):
    """How the load meets the handlers; the last three are None unless they are driven on the wire."""

    concurrency: int
    keepalive: bool
    connections: int | None = None
    in_flight: int | None = None
    keep_conn: bool | None = None


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Factors(_Section):
    """What is varied. A factor that is left out has one level."""

    handler: NameLevels = Field(description="FastCGI concurrency models to compare")
    processes: ProcessLevels = Field(description="handler processes behind lighttpd")
    concurrency: ConcurrencyLevels | None = Field(
        None, description="requests in flight; else load.concurrency"
    )
    keepalive: SwitchLevels | None = Field(None, description="re-use of connections; else load.keepalive")
    cores: CoreLevels = Field(("all",), description="cores of the server; `all` is what the host has")
    placement: PlacementLevels = Field(
        ("shared",), description="load on the server's cores, on cores of its own, or on another host"
    )
    workload: NameLevels | None = Field(None, description="what a request does; else the key workload")
    lighttpd: NameLevels = Field(("default",), description="versions of lighttpd that the hosts have")
    python: NameLevels = Field(("default",), description="interpreters that the hosts have for the handlers")
    connections: ConcurrencyLevels | None = Field(
        None, description="tool fcgi: connections open at once; else load.concurrency"
    )
    in_flight: IdLevels | None = Field(
        None, description="tool fcgi: requests open at once on a connection; else 1"
    )
    keep_conn: SwitchLevels | None = Field(None, description="tool fcgi: connections are kept; else false")


class Load(_Section):
    """How the load is made."""

    tool: Literal["ab", "wrk", "h2load", "fcgi"] = Field("ab", description="load generator")
    concurrency: Annotated[StrictInt, Field(ge=1, le=20_000)] = Field(32, description="requests in flight")
    warmup_s: float = Field(2.0, ge=0, le=600, strict=True, description="seconds of load that do not count")
    measure_s: float = Field(5.0, ge=0.5, le=3600, strict=True, description="seconds of load that count")
    keepalive: StrictBool = Field(False, description="re-use connections between client and lighttpd")

    @property
    def measured_s(self) -> float:
        """Seconds that a measurement really lasts: load generators take whole ones."""
        return float(math.ceil(self.measure_s))


class Design(_Section):
    """How often and in which order."""

    blocks: Annotated[StrictInt, Field(ge=1, le=1000)] = Field(
        10, description="passes through all cells, each in a fresh random order"
    )
    seed: Annotated[StrictInt, Field(ge=0, lt=2**63)] = Field(
        2007, description="makes the order reproducible"
    )
    indifference: Fraction = Field(0.02, description="differences smaller than this do not matter to you")
    sentinel: StrictBool = Field(True, description="measure a reference cell again and again in every block")
    attempts: Annotated[StrictInt, Field(ge=1, le=20)] = Field(
        3, description="tries at a trial before it counts as failed"
    )


class Experiment(_Section):
    """One question, as an experiment file asks it."""

    name: Annotated[StrictStr, Field(pattern=NAME_PATTERN)] = Field(
        description="part of the run's directory name"
    )
    question: Annotated[StrictStr, Field(min_length=1)] = Field(description="what you want to know")
    hosts: Annotated[StrictStr, Field(min_length=1)] = Field(
        "targets", description="any Ansible host pattern"
    )
    factors: Factors
    load: Load = Load()
    workload: StrictStr = Field("hello", description="what a request does")
    measure: Literal["rate", "startup"] = Field(
        "rate", description="requests/s of a server that runs, or how it gets there"
    )
    design: Design = Design()

    @property
    def on_the_wire(self) -> bool:
        """Whether handlers are driven on their own sockets, without lighttpd."""
        return self.load.tool == WIRE

    def regimes(self) -> Iterator[Regime]:
        """Yield every combination of the factors of the load, those included that cannot be."""
        factors, load = self.factors, self.load
        if not self.on_the_wire:
            for each in itertools.product(
                factors.concurrency or (load.concurrency,), factors.keepalive or (load.keepalive,)
            ):
                yield Regime(*each)
            return
        for connections, in_flight, keep_conn in itertools.product(
            factors.connections or (load.concurrency,),
            factors.in_flight or (1,),
            factors.keep_conn or (False,),
        ):
            yield Regime(connections * in_flight, keep_conn, connections, in_flight, keep_conn)

    @property
    def totals(self) -> tuple[int, ...]:
        """The numbers of requests in flight that are measured; cells of the wire with others are dropped."""
        if self.factors.concurrency:
            return self.factors.concurrency
        if self.on_the_wire and "concurrency" not in self.load.model_fields_set:
            return tuple(sorted({regime.concurrency for regime in self.regimes()}))
        return (self.load.concurrency,)

    def normalised(self) -> dict[str, Any]:
        """Return the experiment with every default filled in and every factor as an explicit list."""
        document = self.model_dump(mode="json")
        names = Regime._fields if self.on_the_wire else ("keepalive",)
        regimes = tuple(self.regimes())
        for name in names:
            document["factors"][name] = list(dict.fromkeys(getattr(regime, name) for regime in regimes))
        document["factors"]["concurrency"] = list(self.totals)
        document["factors"]["workload"] = list(self.workloads)
        return document

    @property
    def workloads(self) -> tuple[str, ...]:
        """The levels of the workload."""
        return self.factors.workload or (self.workload,)

    def fingerprint(self) -> str:
        """Return a digest of everything in the experiment that decides what is measured."""
        return digest(self.normalised())


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    """An experiment together with the text it was read from."""

    path: Path
    text: str
    experiment: Experiment
    lines: YamlText

    def problem(self, location: Location, reason: str) -> str:
        """Return one line that names file, line number and reason."""
        return _problem(self.path, self.lines, location, reason)


def digest(document: Any) -> str:
    """Return the sha256 of a JSON document in its canonical form."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_experiment(path: Path, catalogue: Catalogue) -> ExperimentFile:
    """Read and check an experiment file.

    Raises
    ------
    ExperimentError
        Naming file, line and remedy of every problem found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        below = path.parent / "experiments"
        folder = below if below.is_dir() else path.parent
        known = ", ".join(sorted(str(p) for p in folder.glob("*.yml"))) or f"none in {folder.resolve()}"
        raise ExperimentError(
            [f"{path}: cannot be read ({error.strerror}); experiment files: {known}"]
        ) from error
    except UnicodeDecodeError as error:
        raise ExperimentError([f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8"]) from error
    return parse_experiment(path, text, catalogue)


def parse_experiment(path: Path, text: str, catalogue: Catalogue) -> ExperimentFile:
    """Check the text of an experiment file; `path` is used in messages only."""
    try:
        lines = parse_yaml(text)
    except YamlProblem as problem:
        raise ExperimentError([f"{path}:{problem.line}: {problem.reason}"]) from problem
    if not isinstance(lines.value, dict):
        raise ExperimentError(
            [f"{path}:1: must be a mapping with the keys {', '.join(Experiment.model_fields)}"]
        )
    try:
        experiment = Experiment.model_validate(lines.value)
    except ValidationError as error:
        raise ExperimentError(_problems(path, lines, error)) from error
    file = ExperimentFile(path, text, experiment, lines)
    problems = [file.problem(location, reason) for location, reason in _impossible(experiment, catalogue)]
    if problems:
        raise ExperimentError(problems)
    return file


def _impossible(experiment: Experiment, catalogue: Catalogue) -> Iterator[tuple[Location, str]]:
    for index, handler in enumerate(experiment.factors.handler):
        if handler == STATIC:
            yield (
                ("factors", "handler", index),
                "handler 'static' is no level: every block measures it once as the ceiling; leave it out",
            )
        elif handler not in catalogue.handlers:
            yield (
                ("factors", "handler", index),
                f"unknown handler {handler!r}; {suggestion(handler, catalogue.handlers)}",
            )
    varied = experiment.factors.workload is not None
    for index, workload in enumerate(experiment.workloads):
        location: Location = ("factors", "workload", index) if varied else ("workload",)
        if problem := catalogue.workload_problem(workload):
            yield location, problem
    for key, section in (("concurrency", "load"), ("keepalive", "load"), ("workload", None)):
        given = experiment.load.model_fields_set if section else experiment.model_fields_set
        if getattr(experiment.factors, key) is not None and key in given:
            where = f"{section}.{key}" if section else key
            yield ("factors", key), f"{key} is given here and as {where}; remove one of the two"
    yield from _out_of_place(experiment)


def _out_of_place(experiment: Experiment) -> Iterator[tuple[Location, str]]:
    """Find what says nothing with the load generator that was chosen."""
    factors, load = experiment.factors, experiment.load
    if not experiment.on_the_wire:
        for key in ("connections", "in_flight", "keep_conn"):
            if getattr(factors, key) is not None:
                reason = f"{key} is a factor of the wire; it needs load.tool fcgi, not {load.tool}"
                yield ("factors", key), reason
        return
    without_lighttpd = "load.tool fcgi drives the handlers without lighttpd"
    if "lighttpd" in factors.model_fields_set:
        yield ("factors", "lighttpd"), f"{without_lighttpd}; remove the factor"
    if factors.keepalive is not None:
        yield ("factors", "keepalive"), f"{without_lighttpd}; use factors.keep_conn"
    if "keepalive" in load.model_fields_set:
        yield ("load", "keepalive"), f"{without_lighttpd}; use factors.keep_conn"
    if experiment.measure == "startup":
        yield ("measure",), f"startup is measured from lighttpd's start, and {without_lighttpd}"


def _problems(path: Path, lines: YamlText, error: ValidationError) -> list[str]:
    found: dict[tuple[int, str], None] = {}
    misspelt = {_meant(detail["loc"]) for detail in error.errors() if detail["type"] == "extra_forbidden"}
    for detail in error.errors():
        if detail["type"] == "missing" and detail["loc"] in misspelt:
            continue
        location = detail["loc"]
        reason = _reason(location, detail["type"], detail["msg"], detail.get("input"))
        found[lines.line_of(location), _problem(path, lines, location, reason)] = None
    return [text for _, text in sorted(found)]


def _problem(path: Path, lines: YamlText, location: Location, reason: str) -> str:
    return f"{path}:{lines.line_of(location)}: {reason}"


def _reason(location: Location, kind: str, message: str, value: Any) -> str:
    key = ".".join(str(part) for part in location if isinstance(part, str))
    if kind == "extra_forbidden":
        known = _keys_beside(location)
        return f"unknown key {location[-1]!r}{_inside(location)}; {suggestion(str(location[-1]), known)}"
    if kind == "missing":
        return f"the key {location[-1]!r} is missing{_inside(location)}; add it"
    if kind == "value_error":
        return f"{key} {message.removeprefix('Value error, ')}"
    if kind == "model_type":
        return f"{key} must be a mapping, not {value!r}"
    if kind == "string_pattern_mismatch":
        return f"{key} {value!r} must be lower-case letters, digits and dashes, at most 61 of them"
    return f"{key} {value!r} is impossible: {message[0].lower()}{message[1:]}"


def _meant(location: Location) -> Location:
    close = difflib.get_close_matches(str(location[-1]), _keys_beside(location), n=1)
    return (*location[:-1], *close)


def _inside(location: Location) -> str:
    return f" in {location[-2]!r}" if len(location) > 1 else ""


def _keys_beside(location: Location) -> tuple[str, ...]:
    sections: dict[Location, type[BaseModel]] = {
        (): Experiment,
        ("factors",): Factors,
        ("load",): Load,
        ("design",): Design,
    }
    section = sections.get(location[:-1])
    return tuple(section.model_fields) if section else ()
