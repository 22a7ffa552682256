"""Where a FastCGI responder listens: a unix socket's path, or host:port."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Tuple, Union

_MAX_PORT = 65535


class AddressError(ValueError):
    """An address in neither of the two forms, or a host name that does not resolve."""


@dataclass(frozen=True)
class Address:
    """A resolved address.

    Attributes
    ----------
    text : str
        As the user wrote it.
    family : int
        ``socket.AF_UNIX``, ``AF_INET`` or ``AF_INET6``.
    target : str or tuple
        What `socket.connect` takes.
    """

    text: str
    family: int
    target: Union[str, Tuple[object, ...]]

    def __str__(self) -> str:
        return self.text

    def connect(self, timeout_s: float) -> socket.socket:
        """Return a connected socket with this timeout on each of its operations; raise OSError."""
        connection = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_s)
            connection.connect(self.target)
        except BaseException:
            connection.close()
            raise
        return connection


def parse_address(text: str) -> Address:
    """Return the address that `text` names.

    Parameters
    ----------
    text : str
        A path with a slash in it (``/run/php/fpm.sock``, ``./a.sock``; ``unix:`` may precede it), or
        ``host:port``, ``[::1]:9000``.
    """
    path = text[len("unix:") :] if text.startswith("unix:") else text
    if "/" in path:
        return Address(text, socket.AF_UNIX, path)
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > _MAX_PORT:
        raise AddressError(
            f"{text}: not an address; give a unix socket's path with a slash in it, or host:port"
        )
    try:
        family, _, _, _, target = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise AddressError(f"{text}: {error}; give an address that this host can resolve") from error
    return Address(text, family, target)
