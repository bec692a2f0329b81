"""The tree of files that a recipe is made of: its `defaults:` list, and the lists of the files in it.

Hydra builds the whole tree before it looks for circles and repetitions, and knows no places. So the tree is
walked here first and under limits, and each mistake is told at the entry that makes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Protocol

from mcomp.errors import Problem, RecipeError
from mcomp.recipe.load import Source
from mcomp.recipe.nearest import did_you_mean
from mcomp.recipe.places import COMMAND_LINE, KeyPath

MAX_FILES = 64
MAX_DEPTH = 8

SELF = "_self_"
ENTRY = re.compile(r"(?P<override>override +)?(?P<name>[^@\s]+)(@(?P<package>[^@\s]+))?")
OF_HYDRA = re.compile(r"(^|[/@.:\s])hydra($|[/@.:\s])")


class Folder(Protocol):
    """The folder of a recipe: every name is a path in it without `.yaml`."""

    def source(self, name: str) -> Source: ...

    def is_file(self, name: str) -> bool: ...

    def files(self, group: str) -> Sequence[str]: ...


@dataclass(frozen=True)
class Choice:
    """A choice between the files of a group, made elsewhere: by an override's `text`, or by an `entry`."""

    names: tuple[str, ...]
    text: str = ""
    entry: Entry | None = None

    def problem(self, what: str, next_step: str) -> Problem:
        """Return a problem with this choice."""
        if self.entry:
            return self.entry.problem(what, next_step)
        return Problem(COMMAND_LINE, self.text, what, next_step)


@dataclass(frozen=True)
class Entry:
    """One entry of a defaults list, paths from the recipe's folder.

    `group` is the folder it chooses from, or "" for a file named as it is. `overrides`: it changes a choice
    that another file of the tree makes. `choice`: the one that is made in its place.
    """

    source: Source
    path: KeyPath
    group: str
    names: tuple[str, ...]
    package: str
    overrides: bool
    choice: Choice | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The files it names."""
        return tuple(f"{self.group}/{name}" if self.group else name for name in self.names)

    @property
    def key(self) -> str:
        """What a choice of this entry is called on the command line."""
        return f"{self.group}@{self.package}" if self.package else self.group

    def problem(self, what: str, next_step: str = "") -> Problem:
        """Return a problem with this entry."""
        if self.choice:
            return self.choice.problem(what, next_step)
        return self.source.places.problem(self.path, what, next_step)


def check_bases(folder: Folder, name: str, choices: Mapping[str, Choice]) -> None:
    """Raise RecipeError with every mistake in the tree of files under the recipe `name`."""
    tree = Tree(folder, dict(choices))
    tree.walk(name, "", ())
    if tree.problems:
        raise RecipeError(tree.problems)


class Tree:
    """One walk. `first` holds where each file was named first; `choices` grows with the files' own."""

    def __init__(self, folder: Folder, choices: dict[str, Choice]) -> None:
        self.folder = folder
        self.choices = choices
        self.problems: list[Problem] = []
        self.first: dict[tuple[str, str], str] = {}

    def walk(self, name: str, package: str, chain: tuple[str, ...]) -> None:
        """Check a file and everything it builds on; `chain` holds the files around it."""
        try:
            entries = read_entries(self.folder.source(name), name.rpartition("/")[0])
        except RecipeError as error:
            self.problems += [problem for problem in error.problems if problem not in self.problems]
            return
        for entry in entries:
            if entry.overrides:
                self.choices.setdefault(entry.key, Choice(entry.names, entry=entry))
        for entry in entries:
            if not entry.overrides:
                self.follow(self.chosen(entry), package, (*chain, name))

    def chosen(self, entry: Entry) -> Entry:
        """Return an entry with the choice that is made elsewhere in place of its own."""
        choice = self.choices.get(entry.key) if entry.group else None
        return replace(entry, names=choice.names, choice=choice) if choice else entry

    def follow(self, entry: Entry, package: str, chain: tuple[str, ...]) -> None:
        """Check what an entry names."""
        package = f"{package}@{entry.package}" if entry.package else package
        for file in entry.files:
            if problem := self.wrong(entry, file, package, chain):
                self.problems.append(problem)
            else:
                self.first[file, package] = entry.problem("").where
                self.walk(file, package, chain)

    def wrong(self, entry: Entry, file: str, package: str, chain: tuple[str, ...]) -> Problem | None:
        """Return why a file cannot be part of the tree here, or None if it can."""
        if not self.folder.is_file(file):
            return entry.problem(f"there is no file {file}.yaml in the recipe's folder", self.nearest(file))
        if file in chain:
            circle = " -> ".join([*chain[chain.index(file) :], file])
            return entry.problem(f"the files build on each other in a circle: {circle}")
        if (file, package) in self.first:
            what = f"{file}.yaml is built on twice, first at {self.first[file, package]}"
            return entry.problem(what, "remove one: the second would undo what came after the first")
        if len(chain) > MAX_DEPTH:
            return entry.problem(f"is more than {MAX_DEPTH} files deep")
        if len(self.first) >= MAX_FILES:
            raise RecipeError([*self.problems, entry.problem(f"is more than {MAX_FILES} files")])
        return None

    def nearest(self, file: str) -> str:
        """Return what to do about a file that is missing."""
        group, _, name = file.rpartition("/")
        if name.endswith(".yaml"):
            return f"write {name.removesuffix('.yaml')}, without .yaml"
        return did_you_mean(name, self.folder.files(group))


def read_entries(source: Source, around: str) -> list[Entry]:
    """Return the defaults list of a file that lies in the folder `around`.

    Raises RecipeError for what cannot be read or reaches out of the recipe's folder.
    """
    listed = source.data.get("defaults", [])
    if not isinstance(listed, list):
        what, next_step = "must be a list of files to build on", "write `defaults: [base, _self_]`"
        raise RecipeError(source.places.problem(("defaults",), what, next_step))
    problems, entries = [], []
    if listed and listed.count(SELF) != 1:
        what = f"must hold `{SELF}` once, where this file's own keys are laid over those before it"
        problems.append(source.places.problem(("defaults",), what, f"end the list with `- {SELF}`"))
    for index, item in enumerate(listed):
        if item == SELF:
            continue
        read = read_entry(source, ("defaults", index), item, around)
        if isinstance(read, Entry):
            entries.append(read)
        else:
            problems.append(read)
    if problems:
        raise RecipeError(problems)
    return entries


def read_entry(source: Source, path: KeyPath, item: Any, around: str) -> Entry | Problem:
    """Return one entry of a defaults list, or what is wrong with it."""
    key, value = next(iter(item.items()), (None, None)) if isinstance(item, dict) else (item, None)
    names = value if isinstance(value, list) else [] if value is None else [value]
    texts = [key, *names]
    match = ENTRY.fullmatch(key) if isinstance(key, str) else None
    if any(OF_HYDRA.search(str(text)) for text in texts):
        return source.places.problem(path, "a recipe cannot configure Hydra", "use the command line")
    if any(".." in str(text).split("/") or "$" in str(text) for text in texts):
        return source.places.problem(path, "names a file outside the recipe's folder, or no file")
    chooses = isinstance(item, dict)
    readable = match and (len(item) == 1 if chooses else not match["override"])
    if match is None or not readable or not all(isinstance(name, str) and name for name in names):
        what = "must name a file, or choose one from a folder"
        return source.places.problem(path, what, "write `base`, or `folder: file`")
    target = str(PurePosixPath("" if match["name"].startswith("/") else around, match["name"].strip("/")))
    return Entry(
        source,
        path,
        group=target if chooses else "",
        names=tuple(names) if chooses else (target,),
        package=match["package"] or "",
        overrides=bool(match["override"]),
    )
