"""YAML that remembers on which line each value stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

Location = tuple[str | int, ...]
MAX_DEPTH = 20


@dataclass(frozen=True, slots=True)
class YamlText:
    """A parsed YAML document and where its parts came from.

    Attributes
    ----------
    value : Any
        Plain Python data.
    lines : dict
        Line number (from 1) of each location; a mapping key's own line.
    """

    value: Any
    lines: dict[Location, int]

    def line_of(self, location: Location) -> int:
        """Return the line of a location, or of the nearest enclosing one that has a line."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


class YamlProblem(ValueError):
    """Text that is not a usable YAML document.

    Parameters
    ----------
    line : int
        Where, counted from 1.
    reason : str
        What is wrong there.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


class _Loader(yaml.SafeLoader):
    """A loader that tells where a value stands that looks like a date or number and is none."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            reason = f"{node.value!r} cannot be read ({error}); put it in quotes"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from error


def parse_yaml(text: str) -> YamlText:
    """Parse one YAML document.

    Raises
    ------
    YamlProblem
        On a syntax error, on a key that is no word, and on one that stands twice in one mapping (YAML itself
        would let the last win).
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Location, int] = {}
        if node is not None:
            _note_lines(node, (), lines)
        value = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise YamlProblem(mark.line + 1 if mark else 1, error.problem or "is no YAML") from error
    except yaml.YAMLError as error:
        raise YamlProblem(1, str(error).splitlines()[0]) from error
    finally:
        loader.dispose()
    return YamlText(value, lines)


def _note_lines(node: yaml.Node, location: Location, lines: dict[Location, int]) -> None:
    lines.setdefault(location, node.start_mark.line + 1)
    if len(location) > MAX_DEPTH:  # an alias may contain itself
        raise YamlProblem(node.start_mark.line + 1, f"is nested more than {MAX_DEPTH} levels deep")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):  # so YAML reads {{ x }}
                reason = "a key must be a word, no list or mapping; a value that begins with { needs quotes"
                raise YamlProblem(key.start_mark.line + 1, reason)
            here = (*location, key.value)
            if here in lines:
                raise YamlProblem(key.start_mark.line + 1, f"the key {key.value!r} stands here twice")
            lines[here] = key.start_mark.line + 1
            _note_lines(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*location, index), lines)
