"""Strict reading of one YAML file: plain data, and the place of every key and value.

Much less than YAML: no anchors, aliases, tags, merge keys or directives, one document, every key a string and
given once. So nothing that a recipe says depends on the reader, and no file can be larger than it looks.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from mcomp.errors import Problem, RecipeError
from mcomp.recipe import references
from mcomp.recipe.places import KeyPath, Place, Places, dotted, in_order
from mcomp.recipe.scalars import AmbiguousScalar, read_plain
from mcomp.recipe.syntax import in_words

# Seven times what the longest recipes need, and read in less than a tenth of a second.
MAX_BYTES = 64 * 1024
MAX_NODES = 1_000
MAX_DEPTH = 40
MAX_SCALAR = 16 * 1024
MAX_PROBLEMS = 100

# A string that no file name, message or JSON text can hold: NUL, and halves of UTF-16 pairs.
UNUSABLE = re.compile("[\0\ud800-\udfff]")
RESERVED = re.compile(r"_\w*_")


@dataclass(frozen=True)
class Source:
    """One file as it was read."""

    path: Path
    data: dict[str, Any]
    places: Places


def load(path: Path) -> Source:
    """Read a recipe's file. Raises RecipeError with every mistake that can be found without a schema."""
    text = read_text(path)
    reader = Reader(str(path), text)
    data = reader.document()
    if reader.problems:
        raise RecipeError(in_order(reader.problems))
    assert isinstance(data, dict)
    return Source(path, data, Places(str(path), reader.keys, reader.values, texts={str(path): text}))


def read_text(path: Path) -> str:
    """Return the file's text. Raises RecipeError if it is missing, not a file, too large or not UTF-8."""
    if path.suffix != ".yaml" or (os.path.exists(path) and not os.path.isfile(path)):
        raise RecipeError(not_a_recipe(path))
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise RecipeError(Problem(str(path), "", f"is larger than {MAX_BYTES} bytes"))
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(Problem(str(path), "", "no such file", similar_files(path))) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise RecipeError(
            Problem(f"{path}:{line}:{column}", "", "is not UTF-8", "save it as UTF-8")
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RecipeError(Problem(str(path), "", f"cannot be read: {reason}")) from None


def not_a_recipe(path: Path) -> Problem:
    """Return what is wrong with a path that no recipe can have."""
    named = path.with_name(f"{path.stem or path.name}.yaml") if path.name else path
    if os.path.isdir(path):
        recipes = sorted(each.name for each in path.glob("*.yaml") if each.is_file())
        next_step = f"name a recipe in it: {', '.join(recipes[:5])}" if recipes else "name a recipe"
        return Problem(str(path), "", "is a folder", next_step)
    if os.path.exists(path) and not os.path.isfile(path):
        return Problem(str(path), "", "is a device or a pipe", "a recipe is an ordinary file")
    if os.path.isfile(named):
        next_step = f"did you mean {named}?"
    elif os.path.isfile(path):
        next_step = f"a recipe's name ends in .yaml; rename it to {named}"
    else:
        next_step = similar_files(named) or "a recipe's name ends in .yaml"
    return Problem(str(path), "", "is not a recipe" if os.path.exists(path) else "no such file", next_step)


def similar_files(path: Path) -> str:
    """Return what to do about a missing file: the nearest name in its folder."""
    if not os.path.isdir(path.parent):
        return f"there is no folder {path.parent}"
    try:
        names = os.listdir(path.parent)
    except OSError:
        return ""  # a folder that may not be listed has no names to offer
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {path.with_name(near[0])}?" if near else ""


class TooDeep(yaml.MarkedYAMLError):
    """Brackets in brackets, deeper than allowed."""


class Loader(yaml.SafeLoader):
    """PyYAML's reader, stopped where brackets get too deep: it looks far ahead behind each."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        """Read a bracket that opens. Raises TooDeep."""
        if self.flow_level >= MAX_DEPTH:
            raise TooDeep(problem_mark=self.get_mark())
        super().fetch_flow_collection_start(TokenClass)


class Reader:
    """Builds plain data from the events of one YAML stream; collects what it refuses in `problems`."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.keys: dict[KeyPath, Place] = {}
        self.values: dict[KeyPath, Place] = {}
        self.nodes = 0
        try:
            self.loader = Loader(text)
            self.events: Iterator[Any] = iter(self.loader.get_event, None)
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            place = Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
            self.stop(place, f"the character U+{int(error.character):04X} is not allowed in YAML")

    def document(self) -> Any:
        """Return the data of the only document. Raises RecipeError for what ends the reading."""
        self.next()
        start = self.next()
        if isinstance(start, yaml.StreamEndEvent):
            self.stop(Place(self.file, 1, 1), "is empty", "a recipe starts with `version: 1`")
        if start.version or start.tags:
            self.refuse(start, (), "YAML directives are refused", "remove the line")
        first = self.next()
        data = self.node(first, ())
        if not isinstance(first, yaml.MappingStartEvent):
            self.stop(self.place(first), "is not a mapping", "a recipe is made of `key: value` lines")
        self.next()
        rest = self.next()
        if not isinstance(rest, yaml.StreamEndEvent):
            self.refuse(rest, (), "a second document starts here", "a file holds one recipe")
        return data

    def next(self) -> Any:
        """Return the next event. Raises RecipeError where the text is not YAML."""
        try:
            return next(self.events)
        except TooDeep as error:
            self.stop(self.position(error.problem_mark), f"is nested more than {MAX_DEPTH} deep")
        except yaml.MarkedYAMLError as error:
            what, next_step, mark = in_words(error)
            self.stop(self.position(mark or self.loader.get_mark()), f"is not YAML: {what}", next_step)
        except (ValueError, OverflowError):  # an escape such as "\UFFFFFFFF" is no character
            self.stop(self.position(self.loader.get_mark()), "is not YAML: an escape that is no character")

    def node(self, event: Any, path: KeyPath) -> Any:
        """Return the data of the node that starts with `event`."""
        self.values[path] = self.place(event)
        self.check_limits(event, path)
        if isinstance(event, yaml.AliasEvent):
            self.refuse(event, path, f"the alias *{event.anchor} is refused", "write the value out")
            return None
        self.refuse_decoration(event, path)
        return self.BUILD[type(event)](self, event, path)

    def check_limits(self, event: Any, path: KeyPath) -> None:
        """Stop at too many nodes and too deep a nest, before anything is built from them."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.stop(self.place(event), f"has more than {MAX_NODES} values")
        if len(path) > MAX_DEPTH:
            self.stop(self.place(event), f"is nested more than {MAX_DEPTH} deep")

    def refuse_decoration(self, event: Any, path: KeyPath) -> None:
        """Refuse anchors and tags."""
        if event.anchor is not None:
            self.refuse(event, path, f"the anchor &{event.anchor} is refused", "remove it")
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.refuse(event, path, f"the tag {tag} is refused", "remove it; a recipe is plain data")

    def sequence(self, event: Any, path: KeyPath) -> list[Any]:
        """Return a list."""
        items: list[Any] = []
        while not isinstance(event := self.next(), yaml.SequenceEndEvent):
            items.append(self.node(event, (*path, len(items))))
        return items

    def mapping(self, event: Any, path: KeyPath) -> dict[str, Any]:
        """Return a dict; a key that is refused is left out with its value."""
        items: dict[str, Any] = {}
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            key = self.key(event, path)
            inner = (*path, key)
            if key in items:
                first = self.keys[inner].line
                self.refuse(event, inner, f"is given twice, first in line {first}", "remove one")
            else:
                self.keys[inner] = self.place(event)
            items[key] = self.node(self.next(), inner)
        return items

    def key(self, event: Any, path: KeyPath) -> str:
        """Return a key."""
        if not isinstance(event, yaml.ScalarEvent):
            self.refuse(event, path, "a key must be a single name")
            self.node(event, (*path, "?"))
            return "?"
        if event.value == "<<" and event.implicit[0]:
            self.refuse(event, path, "the merge key `<<` is refused", "write the values out")
            return event.value
        self.refuse_decoration(event, path)
        key = self.scalar(event, path)
        if not isinstance(key, str):
            self.refuse(event, path, f"the key `{event.value}` is not a string", "quote it")
            return str(event.value)
        self.refuse_reserved(event, (*path, key))
        return key

    def refuse_reserved(self, event: Any, path: KeyPath) -> None:
        """Refuse the keys that mean something to Hydra: a recipe is data and configures no code."""
        if path == ("hydra",):
            self.refuse(event, path, "a recipe cannot configure Hydra", "use the command line")
        if RESERVED.fullmatch(str(path[-1])):
            self.refuse(event, path, "keys that start and end with _ are refused; a recipe names no code")
        if "${" in str(path[-1]):
            self.refuse(event, path, "a key cannot hold a reference")

    def scalar(self, event: Any, path: KeyPath) -> Any:
        """Return the value of a scalar."""
        text = event.value
        if len(text) > MAX_SCALAR:
            self.stop(self.place(event), f"holds a text of more than {MAX_SCALAR} characters")
        if UNUSABLE.search(text):
            self.refuse(event, path, "holds a NUL or half of a surrogate pair", "remove it")
        if not references.is_plain(text):
            next_step = "write ${key.of.another.value}, or the value itself"
            self.refuse(event, path, "only plain references to another key are allowed", next_step)
        if not event.implicit[0]:
            return text
        try:
            return read_plain(text)
        except AmbiguousScalar as error:
            self.refuse(event, path, str(error), error.next_step)
            return text

    BUILD = {
        yaml.ScalarEvent: scalar,
        yaml.SequenceStartEvent: sequence,
        yaml.MappingStartEvent: mapping,
    }

    def place(self, event: Any) -> Place:
        """Return where an event starts."""
        return self.position(event.start_mark)

    def position(self, mark: Any) -> Place:
        """Return the place of one of PyYAML's marks, which count from 0."""
        return Place(self.file, mark.line + 1, mark.column + 1)

    def refuse(self, event: Any, path: KeyPath, what: str, next_step: str = "") -> None:
        """Note a mistake and read on, unless there are too many to be of use."""
        self.problems.append(Problem(str(self.place(event)), dotted(path), what, next_step))
        if len(self.problems) == MAX_PROBLEMS:
            self.stop(self.place(event), "the file was read to here: mend these mistakes first")

    def stop(self, place: Place, what: str, next_step: str = "") -> NoReturn:
        """Raise everything noted so far and what makes reading on senseless."""
        raise RecipeError(in_order([*self.problems, Problem(str(place), "", what, next_step)]))
