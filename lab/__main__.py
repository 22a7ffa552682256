"""Command line of the lab: ``python -m lab up|down|status``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab import fleet, plan
from lab.errors import LabError
from lab.fleet import Lab

app = typer.Typer(
    help="Throw-away test hosts on this machine.", no_args_is_help=True, pretty_exceptions_enable=False
)
Name = Annotated[str, typer.Option("--name", help="Name of the lab; several can be up side by side.")]


@app.command()
def up(
    name: Name = plan.DEFAULT_NAME,
    hosts: Annotated[
        str | None, typer.Option("--hosts", help="Cores of each host, for example 1,2.", metavar="CORES")
    ] = None,
    rootfs: Annotated[
        str | None, typer.Option("--rootfs", help="overlay (default) or debian:bookworm|trixie|bullseye.")
    ] = None,
    mode: Annotated[
        str, typer.Option("--mode", help="namespaces, processes, or auto: what this machine permits.")
    ] = fleet.AUTO,
    inventory: Annotated[
        Path | None, typer.Option("--inventory", help="Inventory file to write.", dir_okay=False)
    ] = None,
) -> None:
    """Bring up the hosts that are not up, and mend the broken ones."""
    lab = Lab(
        name,
        cores=plan.parse_cores(hosts) if hosts else None,
        rootfs=rootfs,
        mode=mode,
        inventory=inventory,
        say=lambda text: typer.echo(text, err=True),
    )
    for deed in lab.up():
        spec = lab.host(deed.host).spec
        cpus = ",".join(map(str, spec.cpus))
        typer.echo(f"{deed.host:<12} {spec.address}:{spec.port}  CPUs {cpus}  {deed.action}")
    typer.echo(f"log in with: ssh -F {lab.state.ssh_config} {deed.host}", err=True)


@app.command()
def down(name: Name = plan.DEFAULT_NAME) -> None:
    """Take away everything of the lab, whatever state it is in."""
    removed = Lab(name).down()
    for what in removed or [f"nothing: there is no lab {name}"]:
        typer.echo(f"removed {what}")


@app.command()
def status(name: Name = plan.DEFAULT_NAME) -> None:
    """Tell how each host is; exit 1 when one is not up."""
    hosts = Lab(name).status()
    for host in hosts:
        cpus = ",".join(map(str, host.spec.cpus))
        where = f"{host.spec.address}:{host.spec.port}"
        pid = f"pid {host.pid}" if host.pid else ""
        typer.echo(f"{host.spec.name:<12} {where}  CPUs {cpus}  {host.condition}  {pid}".rstrip())
    if not hosts:
        typer.echo(f"lab {name} is not up: `python -m lab up --name {name}` brings it up", err=True)
    if not hosts or any(host.condition != "up" for host in hosts):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; a `LabError` is one line on stderr and exit status 2."""
    try:
        app(standalone_mode=True)
    except LabError as error:
        typer.echo(f"lab: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
