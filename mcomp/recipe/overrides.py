"""Overrides from the command line, read by Hydra's grammar: what they set, what they may not, and sweeps."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType
from hydra.errors import HydraException

from mcomp.errors import Problem, RecipeError
from mcomp.recipe import references
from mcomp.recipe.load import MAX_DEPTH, RESERVED, UNUSABLE
from mcomp.recipe.places import COMMAND_LINE, Assignment

MAX_JOBS = 10_000
WORD = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)  # what Hydra reads without quotes
NO_WORDS = ("true", "false", "null", "nan", "inf")
MAX_TEXT = 8 * 1024
MAX_SHOWN = 200
NESTING = {**dict.fromkeys("[{(", 1), **dict.fromkeys("]})", -1)}
LAUNCHER, SETTING = "hydra/launcher", "hydra.launcher."
LAUNCH_OPTION = re.compile(r"hydra(/launcher|\.launcher(\.[A-Za-z]\w*)+)")


def parse(texts: Sequence[str]) -> list[Override]:
    """Return the parsed overrides of a recipe. Raises RecipeError with every one that is refused."""
    parser = OverridesParser.create()
    problems: list[Problem] = []
    overrides: list[Override] = []
    for text in texts:
        try:
            if reason := too_much(text):
                raise ValueError(reason)
            override = parser.parse_override(text)
            refused = refusal(override, text)
        except (HydraException, ValueError, RecursionError) as error:
            refused = unreadable(text, error)
        else:
            overrides.append(override)
        if refused:
            shown = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
            problems.append(Problem(COMMAND_LINE, shown, *refused))
    if problems:
        raise RecipeError(problems)
    return overrides


def too_much(text: str) -> str:
    """Return why a text is too much for Hydra's parser, or ""."""
    if UNUSABLE.search(text):
        return "it holds a NUL or bytes that are not UTF-8"
    if len(text) > MAX_TEXT:
        return f"it is longer than {MAX_TEXT} characters"
    deepest = max(itertools.accumulate(NESTING.get(each, 0) for each in text), default=0)
    if deepest + text.partition("=")[0].count(".") > MAX_DEPTH:
        return "it is nested too deeply"
    return ""


def unreadable(text: str, error: Exception) -> tuple[str, str]:
    """Return what is wrong with a text that is no override, and what to do."""
    key, equals, value = text.partition("=")
    if not isinstance(error, HydraException):
        return f"cannot be read: {first_line(error)}", "write key=value, +key=value or ~key"
    if not equals:
        return "is no override", "write key=value, +key=value or ~key"
    if key != key.strip() or " " in key:
        return "a key holds no spaces", f"write {''.join(key.split())}={value.strip()}"
    if any(value.count(opening) != value.count(closing) for opening, closing in ("[]", "{}", "()")):
        return "a bracket is not closed", "quote the whole override, so that the shell keeps it together"
    return "the value cannot be read", f"quote it twice, for the shell too: \"{key}='{value}'\""


def refusal(override: Override, text: str) -> tuple[str, str] | None:
    """Return why an override may not be used and what to do, or None if it may."""
    segments = re.split(r"[./]", override.key_or_group)
    if segments[0] == "hydra" and LAUNCH_OPTION.fullmatch(override.key_or_group):
        return "the launcher is chosen for a sweep", f"add -m, and write {LAUNCHER}=joblib"
    if segments[:2] == ["hydra", "sweeper"]:
        return "mcomp lists the jobs of a sweep itself", "write the values of each key: seed=0,1,2"
    if segments[0] == "hydra":
        return "this part of Hydra cannot be configured", f"{LAUNCHER} can, with -m"
    if override.package is not None:
        return "a package (@) cannot be given", "write the path of the key itself"
    if any(RESERVED.fullmatch(name) for name in (*segments, *keys(plain(override)))):
        return "keys that start and end with _ are refused", "a recipe names no code"
    if not references.is_plain(text):
        return "only plain references to another key are allowed", "write ${key.of.another.value}"
    return None


def read_override(text: str) -> Override | None:
    """Return an override as Hydra's grammar reads it, or None if it does not."""
    try:
        return None if too_much(text) else OverridesParser.create().parse_override(text)
    except (HydraException, ValueError, RecursionError):
        return None


def split_launch_options(texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the overrides of a sweep that choose its launcher and its settings, and those of the recipe."""
    options = tuple(text for text in texts if LAUNCH_OPTION.fullmatch(text.partition("=")[0]))
    return options, tuple(text for text in texts if text not in options)


def refuse_sweeps(overrides: Sequence[Override]) -> None:
    """Raise RecipeError for each override that gives several values to try."""
    problems = [
        Problem(
            COMMAND_LINE, str(override.input_line), "gives several values", "add -m, or write a list: [a,b]"
        )
        for override in overrides
        if override.is_sweep_override()
    ]
    if problems:
        raise RecipeError(problems)


def listed(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the overrides of one value each that every override gives, by key in the order of the keys.

    Of two overrides of one key the last counts, at the place of the first. Raises RecipeError for values that
    cannot be listed, and for a sweep over nothing.
    """
    choices: dict[str, list[str]] = {}
    problems: list[Problem] = []
    for override in parse(texts):
        values = sweep_values(override)
        if isinstance(values, Problem):
            problems.append(values)
        else:
            # key=1 and ++key=2 set the same key: both must not be kept, or each job would come twice.
            choices[override.key_or_group] = values
    if problems:
        raise RecipeError(problems)
    return choices


def product(choices: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Return the overrides of each job, in the order of Hydra's basic sweeper: the last key changes fastest.

    Raises RecipeError for more than `MAX_JOBS` jobs.
    """
    if (jobs := math.prod(map(len, choices.values()))) > MAX_JOBS:
        raise RecipeError(
            Problem(COMMAND_LINE, "", f"{jobs} jobs are more than {MAX_JOBS}", "sweep over less")
        )
    return list(itertools.product(*choices.values()))


def sweep_values(override: Override) -> list[str] | Problem:
    """Return one override for each value that `override` gives, or what is wrong with its values."""
    text, key = str(override.input_line), override.get_key_element()
    if not override.is_sweep_override():
        return [text if override.is_delete() else f"{key}={override.get_value_element_as_str()}"]
    if isinstance(override.value(), Glob) or not override.is_discrete_sweep():
        return Problem(COMMAND_LINE, text, "cannot be listed", "write the values: a,b or range(1,4)")
    values = list(itertools.islice(override.sweep_string_iterator(), MAX_JOBS + 1))
    if not values:
        return Problem(COMMAND_LINE, text, "gives no value to try", "start, stop and step leave nothing")
    return [f"{key}={value}" for value in values]


def assignment(override: Override) -> Assignment:
    """Return what an override sets, for the places."""
    return Assignment(tuple(override.key_or_group.split(".")), str(override.input_line), plain(override))


def plain(override: Override) -> Any:
    """Return the value of an override, or None if it has none or several."""
    return None if override.is_sweep_override() else override.value()


def forced(override: Override) -> str:
    """Return the override so that it also sets a key that only has a default; the schema refuses typos."""
    text = str(override.input_line)
    return f"++{text}" if override.type is OverrideType.CHANGE else text


def keys(value: Any) -> Iterator[str]:
    """Yield every key of every mapping in a value."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict):
        yield from map(str, value)
    for item in items:
        yield from keys(item)


def written(value: Any) -> str:
    """Return a value of a recipe as the override grammar writes it: reading it gives the value back."""
    if isinstance(value, str):
        return value if WORD.fullmatch(value) and value.lower() not in NO_WORDS else quoted(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def quoted(text: str) -> str:
    """Return a quoted text of the override grammar; quotes in it, and what precedes them, are escaped."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    # Backslashes before the closing quote would escape it.
    closed = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{closed}'"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its class name if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
