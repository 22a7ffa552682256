"""Which CPUs the server gets and which the load generator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CpuPool:
    """The CPUs of a host that a trial may use.

    Attributes
    ----------
    cpus : tuple of int
        All of them.
    server, load : tuple of int or None
        What the inventory reserves for either side.
    """

    cpus: tuple[int, ...]
    server: tuple[int, ...] | None = None
    load: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class CpuShare:
    """CPUs of the server and of the load generator during one trial; `load` is empty for another host's."""

    server: tuple[int, ...]
    load: tuple[int, ...]


def share_cpus(pool: CpuPool, cores: int | str, placement: str) -> CpuShare:
    """Divide a host's CPUs between server and load generator.

    `shared` puts the load on the server's own CPUs, as the 2007 study did; `split` keeps it on others, and
    `remote` on another host. With `cores` = `all`, `split` leaves one CPU to the load generator, unless the
    inventory says which.

    Parameters
    ----------
    pool : CpuPool
        What there is.
    cores : int or str
        Cores of the server, or `all`.
    placement : str
        `shared`, `split` or `remote`.

    Raises
    ------
    ValueError
        When the host has too few CPUs for it; the message says how many there are.
    """
    unknown = sorted(set((pool.server or ()) + (pool.load or ())) - set(pool.cpus))
    if unknown:
        raise ValueError(
            f"the inventory reserves CPU {unknown[0]}, which is none of those that the host has for us: "
            f"{list(pool.cpus)}; correct server_cpus or load_cpus"
        )
    if placement != "split":
        candidates = pool.server or pool.cpus
        wanted = len(candidates) if cores == "all" else int(cores)
        if wanted > len(candidates):
            raise ValueError(f"{wanted} server cores, but the host has {len(candidates)}")
        server = candidates[:wanted]
        return CpuShare(server, server if placement == "shared" else ())
    return _split(pool, cores)


def _split(pool: CpuPool, cores: int | str) -> CpuShare:
    if len(pool.cpus) < 2:
        raise ValueError("split needs a core for the load besides the server's, but the host has 1")
    if pool.load is not None:
        candidates = pool.server or tuple(cpu for cpu in pool.cpus if cpu not in pool.load)
    else:
        candidates = pool.server or pool.cpus[:-1]
    wanted = len(candidates) if cores == "all" else int(cores)
    server = candidates[:wanted]
    load = tuple(cpu for cpu in pool.load or pool.cpus if cpu not in server)
    if wanted > len(candidates) or not server or not load:
        raise ValueError(
            f"{wanted} server cores and a core for the load, but the host has {len(pool.cpus)} cores in all"
        )
    return CpuShare(server, load)
