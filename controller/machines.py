"""Which machines must not measure at the same time, because one makes the load for the other. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def joined(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Group machines that are linked, directly or by others.

    Parameters
    ----------
    links : iterable of pairs of str
        A server's machine and that of its load generator.

    Returns
    -------
    dict of str to str
        Each linked machine with the first, by name, of its group. Machines without a link are not in it.
    """
    groups: dict[str, set[str]] = {}
    for one, other in links:
        group = groups.get(one, {one}) | groups.get(other, {other})
        groups.update(dict.fromkeys(group, group))
    return {machine: min(group) for machine, group in groups.items()}
