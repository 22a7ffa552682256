"""How numbers are written in sentences."""

from __future__ import annotations

from analysis.intervals import Interval
from analysis.tables import percent


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Return ``1 block`` or ``2 blocks``."""
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


def signed(log_ratio: float) -> str:
    """Return a log ratio as ``+4.1 %``."""
    return f"{percent(log_ratio):+.1f} %"


def ratio_text(log_ratio: Interval) -> str:
    """Return a ratio with its interval, or without one below six blocks."""
    if log_ratio.n == 0:
        return "no pair of valid trials"
    if log_ratio.low is None or log_ratio.high is None:
        return f"{signed(log_ratio.estimate)} (no interval: {plural(log_ratio.n, 'block')})"
    return f"{signed(log_ratio.estimate)} [{percent(log_ratio.low):+.1f}, {percent(log_ratio.high):+.1f}]"


def rps_text(speed: Interval) -> str:
    """Return a goodput with its interval."""
    if speed.n == 0:
        return "no valid trial"
    if speed.low is None or speed.high is None:
        return f"{speed.estimate:,.0f} requests/s (n = {speed.n}, no interval)"
    return f"{speed.estimate:,.0f} requests/s [{speed.low:,.0f}, {speed.high:,.0f}] (n = {speed.n})"


def place_text(host: str, cores: int, setting: str) -> str:
    """Return where a statement holds."""
    where = f"{host} ({plural(cores, 'core')}"
    return f"{where}, {setting})" if setting else f"{where})"


def counts_text(counts: tuple[int, ...], measured: list[int]) -> str:
    """Return a set of counts, with runs of neighbouring measured counts written as a range."""
    parts: list[list[int]] = []
    for count in counts:
        place = measured.index(count)
        if parts and measured.index(parts[-1][-1]) == place - 1:
            parts[-1].append(count)
        else:
            parts.append([count])
    texts = [f"{part[0]}-{part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts]
    return "{" + ", ".join(texts) + "}"
