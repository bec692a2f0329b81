"""Where every key and value of a recipe comes from, so that a mistake can be blamed on its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcomp.errors import Problem

KeyPath = tuple[str | int, ...]
COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Place:
    """A position in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Assignment:
    """One override: the key it sets or deletes, its text as the person wrote it, and the value it sets."""

    path: KeyPath
    text: str
    value: Any = None

    def sets(self, path: KeyPath) -> bool:
        """Whether the value at `path` is part of this override's own value."""
        if not starts_with(path, self.path):
            return False
        value = self.value
        for part in path[len(self.path) :]:
            if not holds(value, part):
                return False
            value = value[part]
        return True


@dataclass(frozen=True)
class Places:
    """The places of keys and values by path, and the overrides that came after them.

    `texts`: what stands in the files, by their names in the places.
    """

    file: str
    keys: Mapping[KeyPath, Place] = field(default_factory=dict)
    values: Mapping[KeyPath, Place] = field(default_factory=dict)
    overrides: tuple[Assignment, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)

    def override_of(self, path: KeyPath) -> Assignment | None:
        """Return the last override that set the value at `path`, that it would stand in, or that made it."""
        outermost = next((path[:n] for n in range(1, len(path) + 1) if path[:n] not in self.values), None)
        for override in reversed(self.overrides):
            if override.sets(path):
                return override
            if outermost and (starts_with(path, override.path) or starts_with(override.path, outermost)):
                return override
        return None

    def place(self, path: KeyPath, *, at_key: bool = False) -> Place:
        """Return the place of `path`, or of the nearest mapping or list around it."""
        if at_key and path in self.keys:
            return self.keys[path]
        for length in range(len(path), -1, -1):
            if path[:length] in self.values:
                # What is missing in a mapping is blamed on the mapping's name, not on its first key.
                inside = 0 < length < len(path) and path[:length] in self.keys
                return self.keys[path[:length]] if inside else self.values[path[:length]]
        return Place(self.file, 1, 1)

    def problem(self, path: KeyPath, what: str, next_step: str = "", *, at_key: bool = False) -> Problem:
        """Return a problem about the value (or the key) at `path`, blamed on a file or on an override."""
        override = self.override_of(path)
        if override is None:
            return Problem(str(self.place(path, at_key=at_key)), dotted(path), what, next_step)
        inner = dotted(path[shared(path, override.path) :])
        return Problem(COMMAND_LINE, override.text, f"{inner}: {what}" if inner else what, next_step)


def holds(value: Any, part: str | int) -> bool:
    """Whether `part` is a key of a mapping or a position in a list."""
    if isinstance(value, list | tuple):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, dict) and part in value


def dotted(path: Iterable[str | int]) -> str:
    """Return a path as it is written in an override: `stages.distill.teachers.0`."""
    return ".".join(str(part) for part in path)


def starts_with(path: KeyPath, prefix: KeyPath) -> bool:
    """Whether `prefix` is `path` or something around it; list positions may be digits."""
    return tuple(map(str, path[: len(prefix)])) == tuple(map(str, prefix))


def shared(one: KeyPath, other: KeyPath) -> int:
    """Return how many parts two paths begin with alike."""
    return next((n for n in range(len(one), 0, -1) if starts_with(other, one[:n])), 0)


def in_order(problems: Iterable[Problem], overrides: Sequence[str] = ()) -> list[Problem]:
    """Return the problems without repetitions: by file, line and column, then by the order of `overrides`."""
    return sorted(dict.fromkeys(problems), key=lambda problem: position(problem, overrides))


def position(problem: Problem, overrides: Sequence[str]) -> tuple[bool, str, int, int]:
    """Return what problems are sorted by."""
    place = re.fullmatch(r"(.*):(\d+):(\d+)", problem.where, re.DOTALL)
    if place is None:
        argument = overrides.index(problem.path) if problem.path in overrides else 0
        return problem.where == COMMAND_LINE, problem.where, argument, 0
    return False, place[1], int(place[2]), int(place[3])
