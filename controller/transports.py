"""Chooses how commands reach a host."""

from __future__ import annotations

from controller.inventory import Host
from controller.local import LocalTransport
from controller.remote import Transport


def open_transport(host: Host) -> Transport:
    """Return the transport that the inventory asks for; nothing is connected yet."""
    if host.connection == "local":
        return LocalTransport(host)
    from controller.ssh import SshTransport  # noqa: PLC0415  (paramiko takes half a second to import)

    return SshTransport(host)
