"""Composition of a recipe with its bases and overrides, by Hydra.

Hydra never opens a recipe: each file that it asks for is read by our strict reader (`RecipeFolder`), so what
a `defaults:` list or a choice of group pulls in is held to the same rules as the recipe itself. Nothing is
written, and a Hydra that is already running in this process is left as it was.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mcomp.errors import Problem, RecipeError
from mcomp.recipe.load import Source, load
from mcomp.recipe.overrides import assignment, first_line, forced, parse, refuse_sweeps
from mcomp.recipe.places import COMMAND_LINE, KeyPath, Place, Places, in_order
from mcomp.recipe.references import is_plain, resolve

# What Hydra lets through: TypeError and ValueError for an override that fits no node (`~list.0`),
# RecursionError for bases that build on each other.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, TypeError, ValueError, RecursionError)


@dataclass(frozen=True)
class Composed:
    """A recipe as plain data, references resolved, before any schema has seen it."""

    path: Path
    data: dict[str, Any]
    places: Places
    overrides: tuple[str, ...]


def compose(path: Path, overrides: Sequence[str] = ()) -> Composed:
    """Return the recipe at `path` with `overrides` applied. Raises RecipeError with every mistake found."""
    problems: list[Problem] = []
    reading, parsed = Reading(path), []
    try:
        reading.source(reading.name)
    except RecipeError as error:
        problems += error.problems
    try:
        parsed = parse(overrides)
        refuse_sweeps(parsed)
    except RecipeError as error:
        problems += error.problems
    if problems:
        raise RecipeError(problems)
    data = reading.compose(parsed)
    places = reading.places(parsed)
    return Composed(path, resolve(data, places), places, tuple(overrides))


class Reading:
    """One composition: the files that Hydra asked for, by their name in the recipe's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name.removesuffix(".yaml")
        self.sources: dict[str, Source] = {}

    def source(self, name: str) -> Source:
        """Return a file of the folder. Raises RecipeError if it breaks the rules."""
        if name not in self.sources:
            source = load(self.path.parent / f"{name}.yaml")
            refuse_in_defaults(source)
            self.sources[name] = source
        return self.sources[name]

    def inside(self, name: str) -> Path | None:
        """Return where a name leads, or None if that is outside the recipe's folder or Hydra's own."""
        folder = self.path.parent.resolve()
        target = (folder / name).resolve()
        inside = target.is_relative_to(folder) and name.split("/")[0] != "hydra"
        return target if inside else None

    def is_file(self, name: str) -> bool:
        """Whether a name is a file that a recipe may build on."""
        target = self.inside(f"{name}.yaml")
        return target is not None and target.is_file()

    def is_folder(self, name: str) -> bool:
        """Whether a name is a folder of files to choose from."""
        target = self.inside(name)
        return target is not None and target.is_dir()

    def compose(self, overrides: Sequence[Override]) -> dict[str, Any]:
        """Return the composed data. Raises RecipeError, each failure blamed on the override behind it."""
        try:
            return composed_by_hydra(self, [self.line(override) for override in overrides])
        except COMPOSITION_ERRORS:
            raise RecipeError(self.blame(overrides)) from None

    def line(self, override: Override) -> str:
        """Return the override for Hydra; a choice between files is left as it is."""
        return str(override.input_line) if self.chooses_file(override) else forced(override)

    def chooses_file(self, override: Override) -> bool:
        """Whether an override is a choice between the files of a folder."""
        return self.is_folder(override.key_or_group) and not isinstance(override.value(), dict)

    def blame(self, overrides: Sequence[Override]) -> list[Problem]:
        """Return what is wrong, by applying the overrides one after the other to those that work."""
        try:
            composed_by_hydra(self, [])
        except COMPOSITION_ERRORS as error:
            return [self.sources[self.name].places.problem(("defaults",), what_failed(error))]
        working: list[str] = []
        problems = []
        for override in overrides:
            line = self.line(override)
            try:
                composed_by_hydra(self, [*working, line])
                working.append(line)
            except COMPOSITION_ERRORS as error:
                what = WHAT_FAILED.get((override.type, type(error)), what_failed(error))
                problems.append(Problem(COMMAND_LINE, str(override.input_line), what))
        return problems

    def places(self, overrides: Sequence[Override]) -> Places:
        """Return the places of all files; those of the recipe itself stand before those of its bases."""
        keys: dict[KeyPath, Place] = {}
        values: dict[KeyPath, Place] = {}
        for name in sorted(self.sources, key=lambda name: name == self.name):
            group = tuple(name.split("/")[:-1])
            keys |= {(*group, *path): place for path, place in self.sources[name].places.keys.items()}
            values |= {(*group, *path): place for path, place in self.sources[name].places.values.items()}
        return Places(str(self.path), keys, values, tuple(map(assignment, overrides)))


READING: ContextVar[Reading | None] = ContextVar("READING", default=None)


class RecipeFolder(ConfigSource):
    """Gives Hydra the files of a recipe's folder, as our strict reader reads them."""

    @property
    def reading(self) -> Reading:
        """The composition that is going on; not kept, because Hydra makes deep copies of its sources."""
        reading = READING.get()
        assert reading is not None
        return reading

    @staticmethod
    def scheme() -> str:
        return "recipe"

    def load_config(self, config_path: str) -> ConfigResult:
        data = OmegaConf.create(self.reading.source(config_path.removesuffix(".yaml")).data)
        return ConfigResult(self.provider, self.full_path(), data, header={"package": None})

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return self.reading.is_folder(config_path)

    def is_config(self, config_path: str) -> bool:
        return self.reading.is_file(config_path.removesuffix(".yaml"))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        folder = self.reading.inside(config_path)
        listed: list[str] = []
        for entry in sorted(folder.iterdir()) if folder else []:
            name = str(entry.relative_to(self.reading.path.parent.resolve()))
            self._list_add_result(listed, name, entry.name, results_filter)
        return listed


class ReadThroughRecipeFolder(SearchPathPlugin):
    """Puts `RecipeFolder` in the place of Hydra's own file reader while a recipe is composed."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if READING.get() is not None:
            for element in search_path.get_path():
                if element.provider == "main":
                    element.path = f"{RecipeFolder.scheme()}://"


@functools.cache
def register() -> None:
    """Make Hydra know the two plugins."""
    Plugins.instance().register(RecipeFolder)
    Plugins.instance().register(ReadThroughRecipeFolder)


@contextmanager
def no_other_hydra() -> Iterator[None]:
    """Set aside a Hydra that runs in this process, because there can be only one."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        if running is not None:
            GlobalHydra.instance().initialize(running)


def composed_by_hydra(reading: Reading, lines: Sequence[str]) -> dict[str, Any]:
    """Return what Hydra makes of a recipe and overrides, references still in it."""
    return plain_data(config_by_hydra(reading, lines))


def config_by_hydra(reading: Reading, lines: Sequence[str]) -> DictConfig:
    """Return what Hydra makes of a recipe and overrides, as OmegaConf's own container."""
    register()
    token = READING.set(reading)
    folder = str(reading.path.parent.resolve())
    try:
        with no_other_hydra(), hydra.initialize_config_dir(folder, job_name="mcomp", version_base="1.3"):
            return hydra.compose(reading.name, overrides=list(lines))
    finally:
        READING.reset(token)


def plain_data(config: DictConfig) -> dict[str, Any]:
    """Return a composed recipe as plain data, references still in it."""
    data = OmegaConf.to_container(config, resolve=False)
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items()}


def refuse_in_defaults(source: Source) -> None:
    """Raise RecipeError for entries of `defaults:` that reach for Hydra or out of the recipe's folder."""
    entries = source.data.get("defaults", [])
    if not isinstance(entries, list):
        raise RecipeError(source.places.problem(("defaults",), "must be a list of files to build on"))
    problems = []
    if entries and "_self_" not in entries:
        what = "must hold `_self_`, where this file's own keys are laid over those before it"
        problems.append(source.places.problem(("defaults",), what, "end the list with `- _self_`"))
    for index, entry in enumerate(entries):
        texts = [text for pair in entry.items() for text in pair] if isinstance(entry, dict) else [entry]
        for text in map(str, texts):
            if re.search(r"(^|[/@\s])hydra($|[./@])", text):
                what = "a recipe cannot configure Hydra"
            elif ".." in text.split("/") or "${" in text or not is_plain(text):
                what = "names a file outside the recipe's folder, or no file"
            else:
                continue
            problems.append(source.places.problem(("defaults", index), what))
    if problems:
        raise RecipeError(in_order(problems))


WHAT_FAILED: dict[tuple[OverrideType, type[Exception]], str] = {
    (OverrideType.DEL, TypeError): "an item of a list cannot be deleted; give the list without it",
    (OverrideType.DEL, hydra.errors.ConfigCompositionException): "there is no such key to delete",
    (OverrideType.ADD, hydra.errors.ConfigCompositionException): "is set already; leave out the +",
}


def what_failed(error: Exception) -> str:
    """Return in one line what Hydra or OmegaConf could not do."""
    if isinstance(error, MissingConfigException):
        return f"there is no file {error.missing_cfg_file}.yaml in the recipe's folder"
    if isinstance(error, RecursionError):
        return "the files build on each other in a circle"
    return f"cannot be applied: {first_line(error.__cause__ or error)}"
