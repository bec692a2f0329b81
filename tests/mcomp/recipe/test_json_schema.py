from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from mcomp import plugins
from mcomp.recipe.json_schema import recipe_schema
from mcomp.recipe.load import load
from mcomp.recipe.samples import sample
from tests.tiny import TEACHER, TINY, mcomp

RECIPES = Path(__file__).parents[3] / "recipes"
SHIPPED = sorted(RECIPES.rglob("*.yaml"))
FILE = RECIPES / ".schema.json"
MAIN = load(RECIPES / "resnet_int8.yaml").data

Where = tuple[str | int, ...]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """Return a validator by the schema that is kept beside the recipes."""
    schema = json.loads(FILE.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def changed(where: Where, value: Any) -> dict[str, Any]:
    """Return the main recipe with one value set."""
    recipe = copy.deepcopy(MAIN)
    place = recipe
    for part in where[:-1]:
        place = place[part]  # type: ignore[index]
    place[where[-1]] = value  # type: ignore[index]
    return recipe


def test_the_schema_beside_the_recipes_is_of_this_version(tmp_path: Path) -> None:
    made = mcomp("schema", "-o", "made.json", cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    assert json.loads((tmp_path / "made.json").read_text()) == json.loads(FILE.read_text()), (
        "fields changed: run `mcomp schema -o recipes/.schema.json`"
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_right_and_tells_editors_where_the_schema_is(
    path: Path, validator: Draft202012Validator
) -> None:
    validator.validate(load(path).data)
    header = f"# yaml-language-server: $schema={os.path.relpath(FILE, path.parent)}"
    assert path.read_text(encoding="utf-8").splitlines()[0] == header


@pytest.mark.parametrize("text", [TINY, TEACHER])
def test_other_recipes_are_right(text: str, validator: Draft202012Validator, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    validator.validate(load(tmp_path / "r.yaml").data)


ACCEPTED: list[tuple[Where, Any]] = [
    (("stages", "prune", "round_to"), "${seed}"),
    (("stages", "qat", "training"), "${stages.distill.training}"),
    (("stages", "prune", "skip"), ["layer1.*", "${name}"]),
    (("stages", "again"), "${stages.qat}"),
    (("model", "checkpoint"), {"recipe": "resnet_teacher.yaml"}),
    (("model", "checkpoint"), "weights.pt"),
    (("stages", "prune", "recover"), None),
    (("require", "speedup"), {"min": 3}),
    (("require", "speedup"), [{"min": 3, "batch_size": 16}]),
    (("sweep",), {"parameters": {"seed": [0, 1]}}),
    (("task",), {"type": "classification"}),
    (("seed",), "???"),
]


@pytest.mark.parametrize(("where", "value"), ACCEPTED)
def test_what_a_recipe_may_say_is_accepted(where: Where, value: Any, validator: Draft202012Validator) -> None:
    validator.validate(changed(where, value))


REFUSED: list[tuple[Where, Any]] = [
    (("stage",), {}),
    (("stages", "prune", "imporance"), "l1"),
    (("stages", "prune", "importance"), "l3"),
    (("stages", "prune", "target"), {"macs": 1.5}),
    (("stages", "prune", "target"), {"mac": 0.5}),
    (("stages", "prune"), {"target": {"macs": 0.5}}),
    (("stages", "prune", "type"), "prune.channel"),
    (("stages", "qat", "training", "optimizer"), {"type": "sgd", "learning_rate": 0.1}),
    (("stages", "qat", "training", "optimizer"), {"lr": 0.1}),
    (("stages", "qat", "training"), {"optimizer": {"type": "sgd"}}),
    (("stages", "distill", "teachers"), []),
    (("stages", "distill", "teachers"), [{"recipes": "resnet_teacher.yaml"}]),
    (("stages", "1st"), {"type": "export.onnx"}),
    (("stages",), {}),
    (("stages", "prune", "round_to"), "8"),
    (("stages", "prune", "skip"), "layer1"),
    (("model", "depth"), 21),
    (("model", "widht"), 16),
    (("data", "type"), "digit"),
    (("require", "speedup"), {"minimum": 3}),
    (("require", "speed"), {"min": 3}),
    (("version",), 2),
    (("name",), "with space"),
    (("seed",), -1),
    (("compute",), {"device": "gpu"}),
]


@pytest.mark.parametrize(("where", "value"), REFUSED)
def test_a_mistake_is_refused(where: Where, value: Any, validator: Draft202012Validator) -> None:
    assert not validator.is_valid(changed(where, value))


@pytest.mark.parametrize("key", ["version", "name", "model", "data"])
def test_a_key_that_every_recipe_has_is_missed(key: str, validator: Draft202012Validator) -> None:
    error = best_match(validator.iter_errors({name: value for name, value in MAIN.items() if name != key}))
    assert f"'{key}' is a required property" in error.message


def test_a_recipe_on_bases_says_only_what_it_changes(validator: Draft202012Validator) -> None:
    on_bases = {"defaults": ["base", {"prune": "l1"}, "_self_"], "stages": {"prune": {"round_to": 4}}}
    validator.validate(on_bases)
    assert not validator.is_valid({**on_bases, "stage": {}})


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (group, name)
        for group in ("stages", "models", "data", "tasks")
        for name in sorted(plugins.installed(group))
    ],
)
def test_each_plugin_shows_a_sample_that_is_right(
    group: plugins.Group, name: str, validator: Draft202012Validator
) -> None:
    kind = plugins.load(group, name)
    shown = sample(kind)
    assert shown is not None
    definition = validator.schema["$defs"][kind.__name__]
    assert definition["examples"] == [shown.value]
    validator.evolve(schema={**definition, "$defs": validator.schema["$defs"]}).validate(shown.value)


def test_fields_say_what_they_are(validator: Draft202012Validator) -> None:
    fields = validator.schema["$defs"]["PruneChannels"]["properties"]
    assert fields["round_to"]["description"] == "keep a multiple of this many channels"
    assert fields["round_to"]["default"] == 8
    assert list(fields)[:2] == ["type", "importance"]


def test_a_plugin_of_somebody_else_is_in_and_a_broken_one_is_told() -> None:
    broken: list[str] = []
    schema = recipe_schema(broken.append)
    assert "Sorting" in schema["$defs"]
    (told,) = broken
    assert told.startswith("lab 1.0: mcomp.stages 'lab.broken'")
