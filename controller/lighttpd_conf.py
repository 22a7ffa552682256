"""The configuration that lighttpd runs with during a trial, rendered here and sent along with the request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"
UNSAFE = re.compile(r'["\\\n\r]')

# the result is a lighttpd configuration, not HTML
_environment = Environment(
    loader=FileSystemLoader(TEMPLATES),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701
    keep_trailing_newline=True,
    trim_blocks=True,
)


@dataclass(frozen=True, slots=True)
class LighttpdConf:
    """What the template may use.

    Attributes
    ----------
    work_dir : str
        Directory of the trial on the host.
    address, port
        Where lighttpd listens.
    modules_dir : str
        Directory of lighttpd's modules.
    handler : str
        A concurrency model, or `static`.
    processes : int
        Handler processes that lighttpd starts.
    command : str
        Command line that starts a handler; lighttpd splits it at spaces.
    environment : mapping of str to str
        What the handlers find in their environment.
    url_path : str
        Path that the handlers answer.
    keepalive : bool
        Whether connections may be used again.
    concurrency : int
        Requests in flight.
    """

    work_dir: str
    address: str
    port: int
    modules_dir: str
    handler: str
    processes: int
    command: str
    environment: Mapping[str, str]
    url_path: str
    keepalive: bool
    concurrency: int


def listen_backlog(concurrency: int) -> int:
    """Return the length of the queue that the template gives each handler, in connections."""
    return max(1024, 2 * concurrency)


def render_lighttpd_conf(conf: LighttpdConf) -> str:
    """Return the text of lighttpd.conf.

    Raises
    ------
    ValueError
        When a value could end the string it is put in.
    """
    values = [conf.work_dir, conf.address, conf.handler, conf.command, conf.url_path]
    values += [text for pair in conf.environment.items() for text in pair]
    for value in values:
        if UNSAFE.search(value):
            raise ValueError(
                f"{value!r} cannot stand in lighttpd.conf; use no quotes, backslashes or line ends"
            )
    return _environment.get_template("lighttpd.conf.j2").render(conf=conf)
