"""Composition of a recipe with its bases and overrides, by Hydra.

Hydra never opens a recipe: each file that it asks for is read by our strict reader (`RecipeFolder`), so what
a `defaults:` list or a choice of group pulls in is held to the same rules as the recipe itself. Nothing is
written, and a Hydra that is already running in this process is left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from mcomp.recipe.bases import Choice, check_bases
from mcomp.recipe.folder import RecipeFiles
from mcomp.recipe.marks import Marks
from mcomp.recipe.overrides import assignment, first_line, forced, parse, refuse_sweeps
from mcomp.recipe.places import COMMAND_LINE, KeyPath, Place, Places, in_order
from mcomp.recipe.references import resolve

# What Hydra lets through: TypeError and ValueError for an override that fits no node (`~list.0`),
# RecursionError for bases that build on each other.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, TypeError, ValueError, RecursionError)


Known = tuple[Mapping[KeyPath, Place], Mapping[KeyPath, Place]]


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
        parsed = parse(overrides)
        refuse_sweeps(parsed)
    except RecipeError as error:
        problems += error.problems
    try:
        reading.check_files(parsed)
    except RecipeError as error:
        problems = in_order([*error.problems, *problems])
    if problems:
        raise RecipeError(problems)
    data = reading.compose(parsed)
    places = reading.places(parsed)
    return Composed(path, resolve(data, places), places, tuple(overrides))


class Reading(RecipeFiles):
    """One recipe, the files that Hydra asked for, and what overrides make of them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.known_places: dict[tuple[str, ...], Known] = {}

    def check_files(self, overrides: Sequence[Override]) -> None:
        """Raise RecipeError with every mistake in the recipe's file and the files it builds on."""
        choices = {
            override.key_or_group: Choice(names_of(override.value()), text=str(override.input_line))
            for override in overrides
            if self.chooses_file(override) and not override.is_delete()
        }
        check_bases(self, self.name, choices)

    def compose(self, overrides: Sequence[Override]) -> dict[str, Any]:
        """Return the composed data. Raises RecipeError, each failure blamed on the override behind it."""
        alone = self.source(self.name).data
        if not overrides and "defaults" not in alone:
            return alone  # nothing to compose: Hydra would take 60 ms to give back the same
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
        """Return the places of all keys and values, each in the file that it was taken from."""
        choices = tuple(self.line(override) for override in overrides if self.chooses_file(override))
        if choices not in self.known_places:
            self.known_places[choices] = self.file_places(choices)
        keys, values = self.known_places[choices]
        texts = {file: text for source in self.sources.values() for file, text in source.places.texts.items()}
        return Places(str(self.path), keys, values, tuple(map(assignment, overrides)), texts)

    def file_places(self, choices: Sequence[str]) -> Known:
        """Return the places of what the files hold, composed with `choices` between them."""
        if len(self.sources) == 1:
            places = self.sources[self.name].places
            return places.keys, places.values
        self.marks = Marks()
        try:
            return self.marks.places(composed_by_hydra(self, choices))
        finally:
            self.marks = None


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
        data = OmegaConf.create(self.reading.data(config_path.removesuffix(".yaml")))
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


def register() -> None:
    """Make Hydra know the two plugins. Asked for each time: its launchers forget plugins between jobs."""
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


def names_of(value: Any) -> tuple[str, ...]:
    """Return the files that a choice on the command line names."""
    return tuple(map(str, value)) if isinstance(value, list) else () if value is None else (str(value),)


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
