"""The client as commands: a probe for people and programs, a load for trials (JSON in, JSON out)."""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, TextIO

from agent.wire.address import AddressError
from agent.wire.capabilities import UNREACHABLE
from agent.wire.client import drive
from agent.wire.probe import probe
from agent.wire.protocol import Request, web_request
from agent.wire.results import Expectation, ProbeResult, WireLoad


def load_to_json(load: WireLoad) -> Dict[str, Any]:
    """Return a load as JSON types, for the process that runs it."""
    request = {
        "params": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in load.request.params],
        "body_base64": base64.b64encode(load.request.body).decode("ascii"),
    }
    return {**dataclasses.asdict(load), "addresses": list(load.addresses), "request": request}


def load_from_json(document: Mapping[str, Any]) -> WireLoad:
    """Return the load that `load_to_json` wrote.

    Raises
    ------
    ValueError
        The load is impossible.
    TypeError
        A key is unknown.
    """
    request = Request(
        params=tuple((n.encode("latin-1"), v.encode("latin-1")) for n, v in document["request"]["params"]),
        body=base64.b64decode(document["request"]["body_base64"]),
    )
    expectation = Expectation(**document["expectation"])
    known = {
        **document,
        "addresses": tuple(document["addresses"]),
        "request": request,
        "expectation": expectation,
    }
    return WireLoad(**known)


def run_load(arguments: Sequence[str], stdout: TextIO, stderr: TextIO) -> int:
    """Run ``wire-load DOCUMENT SECONDS``: the load that a file describes, for so long.

    The result is one line on stdout. Return 0 when the load came to its end, whatever the answers were, and 2
    for bad input.
    """
    if len(arguments) != 2:
        stderr.write("usage: wire-load DOCUMENT SECONDS\n")
        return 2
    try:
        load = load_from_json(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
        result = drive(dataclasses.replace(load, duration_s=float(arguments[1])))
    except (OSError, ValueError, TypeError, KeyError) as error:
        stderr.write(f"wire-load: {arguments[0]}: {error}\n")
        return 2
    stdout.write(json.dumps(result.to_json()) + "\n")
    return 0


def describe(result: ProbeResult) -> List[str]:
    """Return a probe's result as lines for a reader."""
    says = result.capabilities
    multiplexes = {True: "yes", False: "no", None: "not said"}[says.multiplexes]
    lines = [result.address]
    if says.answer != UNREACHABLE:
        lines += [f"  says: {says.detail}", f"  multiplexes: {multiplexes}"]
    marks = {True: "ok", False: "FAILED", None: "does not apply"}
    lines += [f"  {check.name}: {marks[check.passed]} ({check.detail})" for check in result.checks]
    rates = [f"{name} {rate:.0f}/s" for name, rate in result.rates_rps.items() if rate is not None]
    if rates:
        lines.append(f"  short rate on one connection: {', '.join(rates)} (a hint, no measurement)")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wire-probe", description="Ask a FastCGI responder what it can do, and see whether it does."
    )
    parser.add_argument("address", help="a unix socket's path, or host:port")
    parser.add_argument("--url", default="/", help="path to ask for (default: /)")
    parser.add_argument("--query", default="", help="query string to send")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a CGI variable to send, such as SCRIPT_FILENAME=/srv/index.php for PHP; may be repeated",
    )
    parser.add_argument(
        "--timeout", type=float, default=3.0, metavar="S", help="seconds to wait for an answer"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON document")
    return parser


def run_probe(arguments: Sequence[str], stdout: TextIO, stderr: TextIO) -> int:
    """Run ``wire-probe``; return 0 when every check passed, 1 when one failed, 2 for bad input."""
    options = _parser().parse_args(arguments)
    extra = {}
    for pair in options.param:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            stderr.write(f"probe: --param {pair}: write NAME=VALUE\n")
            return 2
        extra[name] = value
    if not 0 < options.timeout < math.inf:
        stderr.write("probe: --timeout: give a number of seconds above 0\n")
        return 2
    try:
        result = probe(options.address, options.timeout, web_request(options.url, options.query, b"", extra))
    except AddressError as error:
        stderr.write(f"probe: {error}\n")
        return 2
    stdout.write(json.dumps(result.to_json()) if options.json else "\n".join(describe(result)))
    stdout.write("\n")
    return 0 if result.passed else 1
