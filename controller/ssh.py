"""The one way in over ssh: fabric, with the four things that it leaves open closed.

Host keys are checked against the inventory's known_hosts, and an unknown or changed key is refused; every
step has a time limit; a dead connection is noticed; jump hosts are explicit.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fabric
import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from controller.errors import HostLost, HostUnreachable
from controller.inventory import Host
from controller.remote import ERROR_TEXT_BYTES, POLL_S, LineBuffer, NoLineYet
from controller.ssh_config import resolve


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each step of a connection may take, in seconds."""

    connect_s: float = 10.0
    banner_s: float = 10.0
    login_s: float = 15.0
    channel_s: float = 10.0
    keepalive_s: int = 5
    dead_s: float = 15.0


TIMEOUTS = Timeouts()
NO_FILES = ("/dev/null", "none")

# paramiko logs tracebacks of what it also raises; what it raises is told here, in one line
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


def connect(host: Host, timeouts: Timeouts = TIMEOUTS, *, as_gate: bool = False) -> Any:
    """Return an open fabric connection to a host; `disconnect` closes it.

    With `as_gate` the host is one to jump through, and is offered the user's own keys as well.

    Raises
    ------
    HostUnreachable
        Naming the host, what went wrong and what to do.
    """
    resolved = resolve(host)
    try:
        connection = _connection(resolved, timeouts, as_gate=as_gate)
    except HostUnreachable as error:  # of a host to jump through, perhaps
        raise HostUnreachable(host.name, error.reason) from error
    try:
        connection.open()
    except Exception as error:
        reason = _why_not(resolved, connection, error)
        disconnect(connection)
        if reason is None:
            raise
        raise HostUnreachable(host.name, reason) from error
    connection.transport.set_keepalive(timeouts.keepalive_s)
    if isinstance(connection.transport.sock, socket.socket):
        # a peer that acknowledges no keepalive is given up here, not after the kernel's 15 minutes
        patience_ms = int(timeouts.dead_s * 1000)
        connection.transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)
    return connection


def disconnect(connection: Any) -> None:
    """Close a connection and those that it goes through; fabric leaves these open, and what never came up."""
    while connection:
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            connection.client.close()
        connection = connection.gateway


def known_hosts_files(host: Host) -> tuple[Path, ...]:
    """Return the files whose host keys count for a host, the one to write to first.

    Where the inventory throws keys away, as for throw-away machines, the user's own files count.
    """
    if files := tuple(Path(name).expanduser() for name in host.known_hosts if name not in NO_FILES):
        return files
    return (Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts"))


def load_known_hosts(host: Host, load: Callable[[str], None]) -> None:
    """Have every file read whose host keys count for a host.

    Raises
    ------
    HostUnreachable
        One of them cannot be read.
    """
    for path in known_hosts_files(host):
        try:
            load(str(path))
        except FileNotFoundError:
            continue
        except paramiko.hostkeys.InvalidHostKey as error:
            reason = f"{path} has a line that is no host key ({error.line[:80]!r}); remove it"
            raise HostUnreachable(host.name, reason) from error
        except (OSError, ValueError) as error:
            reason = (
                f"{path} cannot be read as host keys ({error}); mend it, or name another UserKnownHostsFile"
            )
            raise HostUnreachable(host.name, reason) from error


def jump_host(host: Host) -> Host | None:
    """Return the last host to jump through, itself reached through those before it."""
    if not host.proxy_jump or host.proxy_jump.lower() == "none":
        return None
    *before, last = host.proxy_jump.split(",")
    user, _, place = last.rpartition("@")
    address, colon, port = place.rpartition(":")
    address, port = (address, port) if colon and port.isdigit() else (place, "")
    found = resolve(
        Host(
            name=address,
            machine=address,
            address=address.strip("[]"),
            port=int(port) if port else None,
            user=user or None,
            known_hosts=host.known_hosts,
            proxy_jump=",".join(before) or None,
            config_file=host.config_file,
        )
    )
    return replace(found, private_key=found.private_key or host.private_key)


def _connection(host: Host, timeouts: Timeouts, *, as_gate: bool = False) -> Any:
    """Return a connection, not open yet. A gate is offered the user's own keys as well, as OpenSSH does."""
    key, through = _private_key(host), jump_host(host)
    arguments: dict[str, Any] = {
        "banner_timeout": timeouts.banner_s,
        "auth_timeout": timeouts.login_s,
        "channel_timeout": timeouts.channel_s,
        "pkey": key,
        "allow_agent": as_gate or key is None,
        "look_for_keys": as_gate or (host.private_key is None and host.password is None),
    }
    if host.password is not None:
        arguments["password"] = host.password
    connection = fabric.Connection(
        host.address,
        user=host.user,
        port=host.port or 22,
        gateway=_connection(through, timeouts, as_gate=True) if through else None,
        connect_timeout=int(timeouts.connect_s),
        connect_kwargs=arguments,
        config=fabric.Config(lazy=True, overrides={"load_ssh_configs": False}),
    )
    load_known_hosts(host, connection.client.load_system_host_keys)
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    return connection


def _private_key(host: Host) -> paramiko.PKey | None:
    """Return the key that the host's file holds; None without a file, and where only ssh-agent can use it."""
    if host.private_key is None:
        return None
    path, remedy = (
        Path(host.private_key).expanduser(),
        "correct ansible_ssh_private_key_file, or leave it out",
    )
    try:
        return paramiko.PKey.from_path(path)
    except TypeError:  # it has a passphrase
        return None
    except OSError as error:
        raise HostUnreachable(host.name, f"{path} cannot be read ({error.strerror}); {remedy}") from error
    except (ValueError, UnsupportedAlgorithm, paramiko.pkey.UnknownKeyType) as error:
        raise HostUnreachable(
            host.name, f"{path} is no private key that can be used here; {remedy}"
        ) from error


def _refusing(connection: Any) -> Any:
    """Return the connection that was not made: the first one that is not open on the way."""
    while connection.gateway and not connection.gateway.is_connected:
        connection = connection.gateway
    return connection


def _why_no_login(host: Host, where: str, is_gate: bool) -> str:
    refused = f"login as {where} was refused"
    if is_gate:
        return f"{refused}; check the user in ProxyJump, and give that user's key to ssh-agent (ssh-add)"
    if host.private_key is not None and _private_key(host) is None:
        return (
            f"{host.private_key} has a passphrase, which the sweep cannot ask for, and ssh-agent has no key "
            f"for {where}; give it to ssh-agent (ssh-add), or use a key without one"
        )
    if host.private_key is not None:
        return f"{refused}; check ansible_user and ansible_ssh_private_key_file"
    if host.password is not None:
        return f"{refused}; check ansible_user and ansible_password"
    return (
        f"{refused}: ssh-agent has no key for it, and ~/.ssh none without a passphrase; check ansible_user, "
        "ssh-add the key, or set ansible_ssh_private_key_file"
    )


def _why_not(host: Host, connection: Any, error: Exception) -> str | None:
    refusing = _refusing(connection)
    where = f"{refusing.user}@{refusing.host}:{refusing.port}"
    file = known_hosts_files(host)[0]
    if isinstance(error, paramiko.BadHostKeyException):
        name = error.hostname  # of the host itself, or of one to jump through
        return (
            f"the host key of {name} has CHANGED: it is {error.key.get_name()} {error.key.fingerprint}, "
            f"{file} has {error.expected_key.fingerprint}; if it was installed anew, remove the old key with "
            f"'ssh-keygen -R {shlex.quote(name)} -f {file}', then run 'fcgi-sweep doctor --accept-host-keys'"
        )
    unknown = re.search(r"'(.+)' not found in known_hosts", str(error))
    if isinstance(error, paramiko.SSHException) and unknown:
        return (
            f"the host key of {unknown[1]} is not known in {file}; "
            "compare it and accept it with 'fcgi-sweep doctor --accept-host-keys'"
        )
    if isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in str(error):
        return _why_no_login(host, where, refusing is not connection)
    if isinstance(error, paramiko.SSHException | EOFError | OSError):
        detail = str(error) or type(error).__name__
        if "No existing session" in detail or "banner" in detail:  # paramiko's words for silence
            detail = "sshd does not say a word; the host may be frozen"
        return f"no ssh connection to {where}: {detail}; is the host up and sshd running?"
    return None


class SshTransport:
    """Commands on a host over one ssh connection, made when first needed."""

    def __init__(self, host: Host, timeouts: Timeouts = TIMEOUTS) -> None:
        self.host = host
        self._timeouts = timeouts
        self._connection: Any = None

    def start(self, command: str) -> SshProcess:
        """Start a command line for the user's shell."""
        if self._connection is not None and not self._connection.is_connected:
            self.close()
        if self._connection is None:
            self._connection = connect(self.host, self._timeouts)
        try:
            channel = self._connection.transport.open_session(timeout=self._timeouts.channel_s)
            channel.settimeout(self._timeouts.channel_s)
            channel.exec_command(command)
        except (paramiko.SSHException, OSError, EOFError) as error:
            self.close()
            raise HostLost(
                self.host.name, f"the ssh connection died ({str(error) or type(error).__name__})"
            ) from error
        return SshProcess(self.host, channel)

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        disconnect(connection)


class SshProcess:
    """A command that runs at the other end of an ssh channel."""

    def __init__(self, host: Host, channel: paramiko.Channel) -> None:
        self._host = host
        self._channel = channel
        self._lines = LineBuffer()
        self._errors = b""
        self._ended = False

    def write(self, text: str) -> None:
        """Send text to its standard input."""
        try:
            self._channel.sendall(text.encode())
        except OSError as error:
            if self._channel.exit_status_ready():
                return  # it has already ended; its output and exit code tell why
            raise HostLost(self._host.name, "the ssh connection died while the request was sent") from error

    def read_line(self, timeout_s: float) -> str | None:
        """Return the next line of its output, None at its end."""
        deadline = time.monotonic() + timeout_s
        while (line := self._lines.next_line()) is None:
            if self._ended:
                return None
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoLineYet
            self._channel.settimeout(min(POLL_S, left))
            try:
                data = self._channel.recv(65536)
            except TimeoutError:
                self._drain_errors()
                continue
            if data:
                self._lines.feed(data)
            else:
                self._ended = True
        return line

    def close_input(self) -> None:
        """Close its standard input."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def exit_code(self, timeout_s: float) -> int | None:
        """Return its exit code, -1 if a signal ended it; None if it still runs, or the connection broke."""
        if not self._channel.status_event.wait(timeout_s):
            return None
        code = self._channel.exit_status
        return None if code == -1 and self._is_cut_off() else code

    def _is_cut_off(self) -> bool:
        """Whether the connection went with the channel; paramiko closes the channel a moment earlier."""
        deadline = time.monotonic() + 1.0
        while (transport := self._channel.get_transport()).is_active() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not transport.is_active()

    def error_text(self) -> str:
        """Return what it wrote to standard error so far."""
        self._drain_errors()
        return self._errors.decode("utf-8", "replace")

    def close(self) -> None:
        """Close the channel."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.close()

    def _drain_errors(self) -> None:
        while self._channel.recv_stderr_ready():
            data = self._channel.recv_stderr(65536)
            if not data:
                return
            self._errors = (self._errors + data)[:ERROR_TEXT_BYTES]
