"""The levels of a factor as people write them: one value, a list, or a range."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, PlainValidator, StrictBool, StrictInt, StrictStr

RANGE = re.compile(r"^\s*(\d+)\s*\.\.\s*(\d+)\s*(?:step\s+(\d+)\s*)?$")
PERCENTAGE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*%\s*$")
MAX_LEVELS = 1000


def expand_levels(written: Any) -> tuple[Any, ...]:
    """Turn one value, a list or a range into the levels it stands for.

    `4` gives (4,), `1..4` gives (1, 2, 3, 4), `2..8 step 2` gives (2, 4, 6, 8); a list may hold ranges.

    Raises
    ------
    ValueError
        For an empty list or range, a level that stands twice, or more than 1000 levels.
    """
    parts = list(written) if isinstance(written, list | tuple) else [written]
    levels: list[Any] = []
    for part in parts:
        levels.extend(_expand_range(part) if isinstance(part, str) else [part])
    if not levels:
        raise ValueError("is an empty list; name at least one level")
    if len(levels) > MAX_LEVELS:
        raise ValueError(f"has {len(levels)} levels; at most {MAX_LEVELS} are allowed")
    seen: set[tuple[type, Any]] = set()
    for level in levels:
        key = (type(level), repr(level))
        if key in seen:
            raise ValueError(f"names the level {level!r} twice; remove one")
        seen.add(key)
    return tuple(levels)


def _expand_range(text: str) -> list[Any]:
    match = RANGE.match(text)
    if match is None:
        return [text]
    first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
    if first > last:
        raise ValueError(f"has the empty range {text!r}; write the smaller number first: {last}..{first}")
    if step < 1:
        raise ValueError(f"has the range {text!r} with step 0; use a step of 1 or more")
    if (last - first) // step >= MAX_LEVELS:
        raise ValueError(f"has the range {text!r} with more than {MAX_LEVELS} levels")
    return list(range(first, last + 1, step))


def fraction(written: Any) -> Any:
    """Turn a percentage such as `2%` into the fraction it stands for; leave anything else as it is."""
    match = PERCENTAGE.match(written) if isinstance(written, str) else None
    if type(written) in {int, float} and not 0 < written < 0.5:
        raise ValueError(f"must lie between 0 and 0.5; {written}% is written with its sign")
    return float(match[1]) / 100 if match else written


def core_level(written: Any) -> int | str:
    """Accept a number of cores or the word `all`."""
    if written == "all" or (type(written) is int and written >= 1):
        return cast("int | str", written)
    raise ValueError(f"must be a number of cores or 'all', not {written!r}")


_levels = BeforeValidator(expand_levels)
NameLevels = Annotated[tuple[StrictStr, ...], _levels]
SwitchLevels = Annotated[tuple[StrictBool, ...], _levels]
ProcessLevels = Annotated[tuple[Annotated[StrictInt, Field(ge=1, le=1024)], ...], _levels]
ConcurrencyLevels = Annotated[tuple[Annotated[StrictInt, Field(ge=1, le=20_000)], ...], _levels]
IdLevels = Annotated[tuple[Annotated[StrictInt, Field(ge=1, le=65_535)], ...], _levels]
CoreLevels = Annotated[tuple[Annotated[int | str, PlainValidator(core_level)], ...], _levels]
PlacementLevels = Annotated[tuple[Literal["shared", "split", "remote"], ...], _levels]
Fraction = Annotated[float, BeforeValidator(fraction), Field(gt=0, lt=0.5, strict=True)]
