"""Keys are honest: every field of every built-in part is in the key, unless it says that it has no effect.

What of a recipe's text, of the libraries and of the data is in which key: tests/mcomp/test_plan.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from mcomp import plugins
from mcomp.fingerprint import effective, fingerprint
from mcomp.model.spec import ModelConfig
from mcomp.recipe.schema import Compute
from mcomp.stage import StageConfig
from mcomp_stages.models.huggingface import ORIGIN
from tests.stages.samples import sample_of
from tests.tiny import write_recipes

# Values that no field has: validation is not what is tried here.
OTHER: dict[type, Any] = {
    bool: lambda value: not value,
    int: lambda value: value + 1,
    float: lambda value: value + 0.125,
    str: lambda value: f"{value}x",
    tuple: lambda value: value[1:] if value else (1,),
    dict: lambda value: {**value, "x": 1},
    type(None): lambda value: 1,
}

GROUPS: tuple[plugins.Group, ...] = ("stages", "models", "data", "tasks")


class Change(NamedTuple):
    """One field changed: its path, and whether the field says that it has no effect."""

    path: str
    config: BaseModel
    has_effect: bool


def changes(config: BaseModel, prefix: str = "") -> Iterator[Change]:
    """Yield the configuration with each of its fields, at every depth, changed in turn."""
    for name, field in type(config).model_fields.items():
        value, extra = getattr(config, name), field.json_schema_extra
        has_effect = not (isinstance(extra, dict) and extra.get("affects_result") is False)
        if isinstance(value, BaseModel):
            for change in changes(value, f"{prefix}{name}."):
                outer = config.model_copy(update={name: change.config})
                yield Change(change.path, outer, has_effect and change.has_effect)
            continue
        for index, part in enumerate(value if isinstance(value, tuple) else ()):
            for change in changes(part, f"{prefix}{name}.{index}.") if isinstance(part, BaseModel) else ():
                parts = (*value[:index], change.config, *value[index + 1 :])
                outer = config.model_copy(update={name: parts})
                yield Change(change.path, outer, has_effect and change.has_effect)
        if name != "type":
            kind = next(kind for kind in OTHER if isinstance(value, kind)) if not is_path(value) else str
            other = config.model_copy(update={name: OTHER[kind](value)})
            yield Change(f"{prefix}{name}", other, has_effect)


def is_path(value: object) -> bool:
    return isinstance(value, PurePath)


def built_in() -> dict[str, BaseModel]:
    """Return one configuration of each built-in part, with everything in it that can be switched on."""
    found: dict[str, BaseModel] = {"compute": Compute()}
    for group in GROUPS:
        for name in plugins.names(group):
            kind = plugins.load(group, name)
            if kind.__module__.startswith("mcomp_stages."):
                found[f"{group}: {name}"] = example(kind, name)
    return found


def example(kind: type[BaseModel], name: str) -> BaseModel:
    if issubclass(kind, StageConfig):
        return kind.model_validate(sample_of(import_module(kind.__module__)))
    required = {each: Path("there") for each, field in kind.model_fields.items() if field.is_required()}
    return kind.model_construct(**{**required, "type": name})


EXAMPLES = built_in()
CHANGES = [(name, change) for name, config in EXAMPLES.items() for change in changes(config)]


def key_part(config: BaseModel) -> str:
    """Return what of a configuration is in a key."""
    if isinstance(config, ModelConfig):
        return fingerprint(config.spec())
    if isinstance(config, Compute):
        return fingerprint(config.model_dump(mode="json", exclude_defaults=True))
    return fingerprint(effective(config))


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the values that no field has
@pytest.mark.parametrize(("name", "change"), CHANGES, ids=[f"{name} {each.path}" for name, each in CHANGES])
def test_every_field_is_in_the_key_unless_it_has_no_effect(name: str, change: Change) -> None:
    # The file of a model is in the key by its bytes.
    in_key = change.has_effect and not (name.startswith("models") and change.path == "checkpoint")
    assert (key_part(change.config) != key_part(EXAMPLES[name])) is in_key


def test_what_has_no_effect_is_what_changes_no_byte_of_a_result() -> None:
    without = {each.path.rpartition(".")[2] for _, each in CHANGES if not each.has_effect}
    files = {"path", "tokenizer", *ORIGIN - {"checkpoint"}}  # in the key by their bytes
    assert without == {*files, "every_seconds", "every_steps", "cache", "workers"}


# Other processes


PRINT_KEYS = """
import json, sys
from pathlib import Path
from mcomp.plan import make_plan
from mcomp.recipe.build import load_recipe
plan = make_plan(load_recipe(Path(sys.argv[1]), ()))
print(json.dumps([step.key for step in plan.steps]))
"""

ELSEWHERE = {
    "another hash seed": {"PYTHONHASHSEED": "4242"},
    "another locale": {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "another time zone": {"TZ": "Pacific/Kiritimati"},
    "another home and store": {"HOME": "/nonexistent", "MCOMP_STORE": "/nonexistent/store"},
    "another number of threads": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
}


def keys_in_a_process(recipe: Path, cwd: Path, changed: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PRINT_KEYS, str(recipe)],
        cwd=cwd,
        env={**os.environ, "PYTHONHASHSEED": "0", **changed},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("here")
    return folder, keys_in_a_process(write_recipes(folder), folder, {})


@pytest.mark.parametrize("what", ELSEWHERE)
def test_a_process_elsewhere_has_the_same_keys(what: str, here: tuple[Path, list[str]]) -> None:
    folder, keys = here
    assert keys_in_a_process(folder / "tiny.yaml", folder, ELSEWHERE[what]) == keys


def test_the_folder_of_the_recipe_and_of_the_process_does_not_matter(
    here: tuple[Path, list[str]], tmp_path: Path
) -> None:
    recipe = write_recipes(tmp_path / "a b" / "é")
    assert keys_in_a_process(recipe, Path("/"), {}) == here[1]
