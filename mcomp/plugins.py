"""Plugins by name: the entry points of the groups `mcomp.stages`, `mcomp.models`, ..., and decorated classes.

Nothing is imported before it is used. A plugin that fails to import, claims a taken name or breaks the
contract breaks only the recipes that use it, and is named with its distribution.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from typing import Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mcomp.config import PluginConfig
from mcomp.data.contract import DataConfig
from mcomp.errors import McompError, PluginError, Problem, RecipeError, named, words
from mcomp.model.edits import Edit
from mcomp.model.spec import ModelConfig
from mcomp.recipe.nearest import did_you_mean, one_of
from mcomp.stage import StageConfig
from mcomp.task import TaskConfig

Group = Literal["stages", "models", "data", "tasks", "edits", "trackers"]
Plugin = TypeVar("Plugin", bound=type[BaseModel])


@dataclass(frozen=True)
class Contract:
    """What a group asks of its classes: a base, and the field that holds the plugin's name."""

    base: type[BaseModel]
    name_field: str = "type"
    attributes: tuple[str, ...] = ()


CONTRACTS: dict[Group, Contract] = {
    "stages": Contract(StageConfig, attributes=("forms",)),
    "models": Contract(ModelConfig),
    "data": Contract(DataConfig),
    "tasks": Contract(TaskConfig),
    "edits": Contract(Edit, name_field="kind"),
    "trackers": Contract(PluginConfig),
}


class UnknownPlugin(RecipeError, PluginError):
    """No plugin of the group has this name; `next_step` holds the nearest name and the list.

    In a recipe it is a mistake of the recipe; a saved model that names it lacks a plugin.
    """

    def __init__(self, group: Group, name: str) -> None:
        known = names(group)
        listed = one_of(known)
        near = did_you_mean(name, known)
        self.what = f"unknown type '{name}'"
        own = "one of your own needs --import MODULE"
        self.next_step = f"{near} ({listed})" if near else f"it must be {listed}; {own}"
        super().__init__(Problem(f"mcomp.{group}", "", self.what, self.next_step))


@dataclass(frozen=True)
class Claim:
    """Somebody's claim to a name: where its class is, and who says so."""

    target: str
    source: str
    load: Callable[[], object]


@dataclass(frozen=True)
class Description:
    """One line of a list of plugins; `error` says why a plugin cannot be used."""

    name: str
    distribution: str
    summary: str
    error: str = ""


decorated: dict[tuple[Group, str], list[Claim]] = {}


def names(group: Group) -> tuple[str, ...]:
    """Return the names of a group, sorted; nothing is imported."""
    return tuple(sorted({*installed(group), *(name for kind, name in decorated if kind == group)}))


def load(group: Group, name: str) -> type[BaseModel]:
    """Return the class behind a name. Raises UnknownPlugin, or PluginError if it cannot be used."""
    claim = only_claim(group, name)
    label = f"{claim.source}: mcomp.{group} '{name}' ({claim.target})"
    with blamed_on(f"{label} cannot be imported"):
        plugin = claim.load()
        broken = breach(CONTRACTS[group], name, plugin)
    if broken:
        raise PluginError(f"{label}: wrong contract: {broken}")
    assert isinstance(plugin, type)
    return plugin


@contextmanager
def asked(group: Group, name: str) -> Iterator[None]:
    """Blame what a plugin's own code raises, while it is asked something, on the plugin.

    What mcomp or Pydantic raises on purpose passes. Raises PluginError.
    """
    source = ", ".join(dict.fromkeys(claim.source for claim in claims(group, name)))
    with blamed_on(f"{source}: mcomp.{group} '{name}' failed", passing=(McompError, ValidationError)):
        yield


@contextmanager
def blamed_on(what: str, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Run code of somebody else: what it prints goes to stderr, and what it raises becomes a PluginError.

    `what` went wrong comes before the error's own words. `passing` and a person's Ctrl-C are left alone.
    """
    try:
        # What goes to stdout may be read by a program: `plan --json`.
        with redirect_stdout(sys.stderr):
            yield
    except BaseException as error:  # it may raise anything, also what is no Exception
        if isinstance(error, (KeyboardInterrupt, *passing)):
            raise
        raise PluginError(f"{what}: {last_line(error)}") from error


def describe(group: Group) -> list[Description]:
    """Return every plugin of a group with its summary, or with what is wrong with it."""
    descriptions = []
    for name in names(group):
        source = ", ".join(dict.fromkeys(claim.source for claim in claims(group, name)))
        try:
            documentation = load(group, name).__doc__ or ""
            descriptions.append(Description(name, source, documentation.strip().partition("\n")[0]))
        except PluginError as error:
            descriptions.append(Description(name, source, "", str(error)))
    return descriptions


def import_module(name: str) -> None:
    """Import a module whose decorated classes become plugins. Raises PluginError."""
    try:
        with blamed_on(f"module {name} cannot be imported", passing=(ModuleNotFoundError,)):
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise PluginError(f"module {name} cannot be imported: {last_line(error)}") from error
        places = "it must be installed, or lie in a folder of PYTHONPATH"
        raise PluginError(f"there is no module {name}; {places}") from None


def stage(name: str) -> Callable[[Plugin], Plugin]:
    """Register the decorated StageConfig as the stage type `name`."""
    return registration("stages", name)


def model(name: str) -> Callable[[Plugin], Plugin]:
    """Register the decorated ModelConfig as the model type `name`."""
    return registration("models", name)


def data(name: str) -> Callable[[Plugin], Plugin]:
    """Register the decorated DataConfig as the data type `name`."""
    return registration("data", name)


def task(name: str) -> Callable[[Plugin], Plugin]:
    """Register the decorated TaskConfig as the task type `name`."""
    return registration("tasks", name)


def registration(group: Group, name: str) -> Callable[[Plugin], Plugin]:
    """Return a decorator that registers a class; a reloaded module replaces what it registered before."""

    def register(plugin: Plugin) -> Plugin:
        target = f"{plugin.__module__}:{plugin.__qualname__}"
        others = [claim for claim in decorated.get((group, name), []) if claim.target != target]
        decorated[group, name] = [*others, Claim(target, f"module {plugin.__module__}", lambda: plugin)]
        return plugin

    return register


def only_claim(group: Group, name: str) -> Claim:
    """Return the one claim to a name. Raises UnknownPlugin for none, PluginError for several."""
    found = claims(group, name)
    if not found:
        raise UnknownPlugin(group, name)
    if len(found) > 1:
        owners = " and ".join(f"{claim.source} ({claim.target})" for claim in found)
        raise PluginError(f"mcomp.{group} '{name}' is claimed by {owners}; uninstall one of them")
    return found[0]


def claims(group: Group, name: str) -> list[Claim]:
    """Return every claim to a name."""
    return [*installed(group).get(name, []), *decorated.get((group, name), [])]


def installed(group: Group) -> dict[str, list[Claim]]:
    """Return the claims of the installed distributions by name."""
    return scan(group, tuple(sys.path))


@functools.lru_cache
def scan(group: Group, path: tuple[str, ...]) -> dict[str, list[Claim]]:
    """Read the entry points of a group; `path` is `sys.path`, because a longer one may hold more."""
    try:
        entries = [*entry_points(group=f"mcomp.{group}")]
    except Exception:  # one distribution's file is broken
        entries = [*readable_entry_points(f"mcomp.{group}")]
    found: dict[str, list[Claim]] = {}
    for entry in entries:
        if entry.name.isprintable():  # no recipe can name another
            found.setdefault(entry.name, []).append(Claim(entry.value, distribution(entry.dist), entry.load))
    return found


def readable_entry_points(group: str) -> Iterator[EntryPoint]:
    """Yield the entry points of a group from the distributions whose own can be read."""
    for each in distributions():
        try:
            yield from [entry for entry in each.entry_points if entry.group == group]
        except Exception:
            continue  # it breaks the recipes that need it: its names are unknown


@functools.lru_cache  # one has many entry points, and parsing what it says of itself takes a millisecond
def distribution(dist: Distribution | None) -> str:
    """Return the name and version of the distribution that an entry point comes from."""
    return named(f"{dist.name} {dist.version}") if dist else "unknown distribution"


def breach(contract: Contract, name: str, plugin: object) -> str:
    """Return what a plugin misses of its group's contract, or ""."""
    base = f"{contract.base.__module__}.{contract.base.__qualname__}"
    if not (isinstance(plugin, type) and issubclass(plugin, contract.base)):
        return f"it is not a subclass of {base}"
    plugin.model_rebuild(raise_errors=False)
    field = plugin.model_fields.get(contract.name_field)
    annotation = field.annotation if field else None
    if get_origin(annotation) is not Literal or get_args(annotation) != (name,):
        return f'its field `{contract.name_field}` must be Literal["{name}"]'
    missing = [attribute for attribute in contract.attributes if not hasattr(plugin, attribute)]
    return f"it does not define {', '.join(missing)}" if missing else ""


def last_line(error: BaseException) -> str:
    """Return an error's class and the last line of its text."""
    kind, _, text = words(error).partition(": ")
    return ": ".join([kind, *text.splitlines()[-1:]])
