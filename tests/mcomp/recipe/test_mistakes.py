"""The mistakes a person can make in a recipe, and what they are told: place, key, what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp.errors import McompError, RecipeError
from mcomp.recipe.build import load_recipe

# ruff: noqa: E501 -- a table: one mistake and its message on a line
IN_FILE = [
    # unknown keys, with the nearest that is possible
    ("importance: l2", "imporance: l2", "r.yaml:13:5: stages.cut.imporance: unknown key; did you mean 'importance'?"),
    ("lr: 1e-3", "lrr: 1e-3", "r.yaml:10:50: stages.learn.training.optimizer.lrr: unknown key; did you mean 'lr'?"),
    ("name: small", "nmae: small\nname: small", "r.yaml:2:1: nmae: unknown key; did you mean 'name'?"),
    ("min: 2.0", "minimum: 2.0, min: 1", "r.yaml:17:13: require.speedup.minimum: unknown key; did you mean 'min'?"),
    ("depth: 20", "dept: 20", "r.yaml:3:24: model.dept: unknown key; did you mean 'depth'?"),
    ("macs: 0.5", "zzz: 1, macs: 0.5", "r.yaml:14:14: stages.cut.target.zzz: unknown key; possible here: macs, params"),
    # plugins
    ("lab.prune", "lab.prunes", "r.yaml:12:11: stages.cut.type: unknown type 'lab.prunes'; did you mean 'lab.prune'?"),
    ("lab.net", "os.system", "r.yaml:3:15: model.type: unknown type 'os.system'; it must be one of"),
    ("lab.images", "lab.image", "r.yaml:4:14: data.type: unknown type 'lab.image'; did you mean 'lab.images'?"),
    ("lab.sorting", "sort", "r.yaml:5:14: task.type: unknown type 'sort'; "),
    ("type: lab.images", "batch_size: 2", "r.yaml:4:1: data.type: is missing; it is one of"),
    ("{type: lab.net, depth: 20}", "lab.net", "r.yaml:3:8: model: must be a mapping; its `type` is one of"),
    ("type: lab.images", "type: [lab.images]", "r.yaml:4:14: data.type: must be a name; it is one of"),
    ("write: {type: lab.export}", "write: null", "r.yaml:15:10: stages.write: must be a mapping"),
    # values of a wrong type or out of range
    ("macs: 0.5", "macs: 1.5", "r.yaml:14:20: stages.cut.target.macs: must be below 1.0, not 1.5; it is: the share of"),
    ("macs: 0.5", "macs: half", "r.yaml:14:20: stages.cut.target.macs: must be a number, not 'half'"),
    ("macs: 0.5", "", "r.yaml:14:13: stages.cut.target: needs exactly one of macs and params"),
    ("epochs: 2", "epochs: 0", "r.yaml:10:24: stages.learn.training.epochs: must be at least 1, not 0"),
    ("epochs: 2", "epochs: 2.5", "r.yaml:10:24: stages.learn.training.epochs: must be an integer, not 2.5"),
    ("epochs: 2, ", "", "r.yaml:10:5: stages.learn.training.epochs: is missing"),
    ("importance: l2", "importance: l3", "r.yaml:13:17: stages.cut.importance: must be 'l1', 'l2' or 'random', not 'l3'"),
    ("depth: 20", "depth: 21", "r.yaml:3:31: model.depth: must be 20 or 56, not 21"),
    ("type: sgd", "type: sdg", "r.yaml:10:45: stages.learn.training.optimizer.type: must be 'sgd', 'adamw', not 'sdg'; did you"),
    ("type: sgd, ", "", "r.yaml:10:27: stages.learn.training.optimizer.type: is missing"),
    ("{epochs: 2, optimizer: {type: sgd, lr: 1e-3}}", "fast", "r.yaml:10:15: stages.learn.training: must be a mapping, not 'fast'"),
    ("importance: l2", "layers: 3", "r.yaml:13:13: stages.cut.layers: must be a string or a list, not 3"),
    ("importance: l2", "layers: [3]", "r.yaml:13:14: stages.cut.layers.0: must be a string, not 3"),
    ("depth: 20", "checkpoint: 3", "r.yaml:3:36: model.checkpoint: must be a string or a mapping, not 3"),
    ("depth: 20", "checkpoint: {recipes: x}", "r.yaml:3:37: model.checkpoint.recipes: unknown key; did you mean 'recipe'?"),
    ("version: 1", "version: 2", "r.yaml:1:10: version: was made for a newer mcomp: this one reads version 1; upgrade mcomp"),
    ("version: 1", "version: 1.0", "r.yaml:1:10: version: must be 1, not 1.0; it is: version of the recipe language"),
    ("version: 1", "version: true", "r.yaml:1:10: version: must be 1, not true; it is: version of the recipe language"),
    ("version: 1", "seed: 1", "r.yaml:1:1: version: is missing"),
    ("version: 1", "version: 1\nseed: -1", "r.yaml:2:7: seed: must be at least 0, not -1"),
    ("name: small", "name: ../x", "r.yaml:2:7: name: must be a name of letters, digits, - and _ that starts with a letter, not '../x'"),
    ("write: {", "'w/x': {", "r.yaml:15:3: stages.w/x: must be a name"),
    ("min: 2.0", "of: write", "r.yaml:17:12: require.speedup: needs min or max"),
    ("min: 2.0", "min: 2.0, max: 1", "r.yaml:17:12: require.speedup: min 2 is above max 1"),
    # what must hold between the parts
    ("[learn,", "[lern,", "r.yaml:6:12: pipeline.0: there is no stage 'lern'; did you mean 'learn'?"),
    ("[learn, cut, write]", "[]", "r.yaml:6:11: pipeline: is empty"),
    ("[learn, cut,", "[learn, cut, cut,", "r.yaml:6:24: pipeline.2: the stage 'cut' is in the pipeline twice"),
    ("[learn, cut, write]", "[learn, cut]", "r.yaml:16:1: require: needs an exported file"),
    ("min: 2.0", "min: 2.0, of: cut", "r.yaml:17:27: require.speedup.of: no export 'cut' in the pipeline"),
    ("{min: 2.0}", "[{min: 2.0, batch_size: 3}]", "r.yaml:17:36: require.speedup.0.batch_size: batch size 3 is not measured"),
    ("depth: 20", "checkpoint: weigths.pt", "r.yaml:3:36: model.checkpoint: there is no file weigths.pt; did you mean weights.pt?"),
    ("depth: 20", "checkpoint: folder", "r.yaml:3:36: model.checkpoint: folder is a folder"),
    ("depth: 20", "checkpoint: gone/a.pt", "r.yaml:3:36: model.checkpoint: there is no file gone/a.pt; there is no folder gone"),
    ("type: lab.train", "type: lab.train\n    teachers: [{recipe: techer.yaml}]", "r.yaml:10:25: stages.learn.teachers.0.recipe: there is no file techer.yaml; did you mean teacher.yaml?"),
    ("version: 1", "version: 1\nbaseline: {recipe: x.yaml}", "r.yaml:2:20: baseline.recipe: there is no file x.yaml"),
]  # fmt: skip

ON_THE_COMMAND_LINE = [
    ("stages.cut.target.macs=1.5", "command line: stages.cut.target.macs=1.5: must be below 1.0, not 1.5; it is: the share"),
    ("stages.cut.imporance=l1", "command line: stages.cut.imporance=l1: unknown key; did you mean 'importance'?"),
    ("stages.cut={imporance: l1}", "command line: stages.cut={imporance: l1}: imporance: unknown key; did you"),
    ("stages.more={type: lab.train}", "command line: stages.more={type: lab.train}: training: is missing"),
    ("stages.cut.target.params=0.5", "r.yaml:14:13: stages.cut.target: needs exactly one of macs and params; overridden: stages.cut.target.params=0.5"),
    ("pipeline=[cutt,write]", "command line: pipeline=[cutt,write]: 0: there is no stage 'cutt'; did you mean 'cut'?"),
    ("~version", "command line: ~version: is missing"),
    ("~stages.cuts", "command line: ~stages.cuts: there is no such key to delete"),
    ("~pipeline.0", "command line: ~pipeline.0: an item of a list cannot be deleted; give the list without it"),
    ("+model.depth=56", "command line: +model.depth=56: is set already; leave out the +"),
    ("pipeline.7=cut", "command line: pipeline.7=cut: cannot be applied: list index out of range"),
    ("stages.cut.target.macs=0.4,0.5", "command line: stages.cut.target.macs=0.4,0.5: gives several values; add -m"),
    ("seed=range(0,3)", "command line: seed=range(0,3): gives several values; add -m"),
    ("pipeline=[cut", "command line: pipeline=[cut: a bracket is not closed; quote the whole override"),
    ("seed", "command line: seed: is no override; write key=value"),
    ("stages.cut.target.macs=${oc.env:HOME}", "command line: stages.cut.target.macs=${oc.env:HOME}: only plain references"),
    ("name='${stages.cut.${name}}'", "command line: name='${stages.cut.${name}}': only plain references"),
    ("name=${nmae}", "command line: name=${nmae}: ${nmae}: there is no such key; did you mean 'name'?"),
    ("name=${name}", "command line: name=${name}: references lead in a circle: name -> name"),
    ("name=???", "command line: name=???: has no value yet; set it"),
    ("hydra.run.dir=/tmp/x", "command line: hydra.run.dir=/tmp/x: this part of Hydra cannot be configured"),
    ("+hydra.callbacks.x._target_=os.system", "command line: +hydra.callbacks.x._target_=os.system: this part of Hydra"),
    ("hydra/launcher=joblib", "command line: hydra/launcher=joblib: the launcher is chosen for a sweep; add -m, and write hydra/launcher=joblib"),
    ("+r@hydra.callbacks=r", "command line: +r@hydra.callbacks=r: a package (@) cannot be given"),
    ("model._target_=os.system", "command line: model._target_=os.system: keys that start and end with _ are refused"),
    ("model={a: [{_target_: x}]}", "command line: model={a: [{_target_: x}]}: keys that start and end with _ are refused"),
    ("stages.write.type=lab.exprt", "command line: stages.write.type=lab.exprt: unknown type 'lab.exprt'; did you mean 'lab.export'?"),
    ("defaults=[x]", "command line: defaults=[x]: unknown key"),
    ("seed=inf", "command line: seed=inf: must be an integer, not inf"),
    ("name=\udcff", "command line: name=\\udcff: cannot be read: it holds a NUL or bytes that are not UTF-8"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def neighbours() -> None:
    Path("weights.pt").touch()
    Path("teacher.yaml").touch()
    Path("folder").mkdir()


@pytest.mark.parametrize(("old", "new", "message"), IN_FILE)
def test_a_mistake_in_the_file_is_told_once_with_its_place(
    old: str, new: str, message: str, write: Callable[..., Path]
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(old, new))
    assert [str(problem)[: len(message)] for problem in caught.value.problems] == [message]


@pytest.mark.parametrize(("override", "message"), ON_THE_COMMAND_LINE)
def test_a_mistake_in_an_override_is_blamed_on_it(
    override: str, message: str, write: Callable[..., Path]
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(), [override])
    assert [str(problem)[: len(message)] for problem in caught.value.problems] == [message]


def test_an_override_that_changes_a_type_is_told_how_to_drop_the_keys_of_the_old_one(
    write: Callable[..., Path],
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(), ["stages.cut.type=lab.export", "~stages.cut.target"])
    assert [str(problem) for problem in caught.value.problems] == [
        "r.yaml:13:5: stages.cut.importance: unknown key; "
        "stages.cut.type=lab.export changes the type and keeps the other keys: add ~stages.cut.importance"
    ]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(write: Callable[..., Path]) -> None:
    text = write("importance: l2", "importance: l3").read_text()
    path = write(
        "epochs: 2", "epochs: none", text=text.replace("[learn,", "[lern,").replace("20}", "21, x: 1}")
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["sede=1", "stages.cut.round_to=0"])
    assert [(problem.where, problem.path) for problem in caught.value.problems] == [
        ("r.yaml:3:31", "model.depth"),
        ("r.yaml:3:35", "model.x"),
        ("r.yaml:6:12", "pipeline.0"),
        ("r.yaml:10:24", "stages.learn.training.epochs"),
        ("r.yaml:13:17", "stages.cut.importance"),
        ("command line", "sede=1"),
        ("command line", "stages.cut.round_to=0"),
    ]


def test_several_overrides_that_cannot_be_applied_are_all_named(write: Callable[..., Path]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(), ["~nope", "seed=3", "+name=x"])
    assert [problem.path for problem in caught.value.problems] == ["~nope", "+name=x"]


def test_a_broken_plugin_is_an_error_of_its_distribution(write: Callable[..., Path]) -> None:
    with pytest.raises(McompError, match=r"lab 1\.0: mcomp\.stages 'lab\.broken' .*'lab_missing'") as caught:
        load_recipe(write("lab.prune", "lab.broken"))
    assert caught.value.exit_code == 4
