"""Recipes made of several files: what they say together, where each value comes from, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp.errors import RecipeError
from mcomp.recipe.bases import MAX_DEPTH, MAX_FILES
from mcomp.recipe.build import load_recipe
from mcomp.recipe.compose import compose

Write = Callable[..., Path]


def where(path: Path, key: str, *overrides: str) -> str:
    """Return the place that a mistake in the value at `key` would be blamed on."""
    return compose(path, overrides).places.problem(tuple(key.split(".")), "").where


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_recipes_share_bases_and_add_to_them(write: Write) -> None:
    write("name: small\n", name="parts/base.yaml")
    path = write(text="defaults: [parts/base@_global_, _self_]\nname: top\nstages: {cut: {round_to: 16}}\n")
    recipe = load_recipe(path, ["stages.cut.target.macs=0.25"]).recipe
    assert recipe.name == "top"
    assert recipe.stages["cut"].model_dump(exclude_unset=True) == {
        "type": "lab.prune", "importance": "l2", "target": {"macs": 0.25}, "round_to": 16,
    }  # fmt: skip


def test_a_preset_of_a_stage_is_a_file_in_a_folder_named_like_the_stage(write: Write) -> None:
    write(name="stages/cut/half.yaml", text="type: lab.prune\ntarget: {macs: 0.5}\n")
    write(name="stages/cut/gentle.yaml", text="type: lab.prune\ntarget: {macs: 0.8}\n")
    write(
        "pipeline: [learn, cut, write]\n",
        "pipeline: [learn, cut, write]\ndefaults: [{stages/cut: half}, _self_]\n",
    )
    path = write(
        "  cut:\n    type: lab.prune\n    importance: l2\n    target: {macs: 0.5}\n",
        text=Path("r.yaml").read_text(),
    )
    assert load_recipe(path).recipe.stages["cut"].target.macs == 0.5  # type: ignore[attr-defined]
    chosen = load_recipe(path, ["stages/cut=gentle"])
    assert chosen.recipe.stages["cut"].target.macs == 0.8  # type: ignore[attr-defined]
    assert chosen.where(("stages", "cut", "target", "macs")) == "stages/cut/gentle.yaml:2:16"
    assert problems(path, "stages/cut=gentel") == [
        "command line: stages/cut=gentel: there is no file stages/cut/gentel.yaml in the recipe's folder; "
        "did you mean 'gentle'?"
    ]


def test_a_preset_can_be_laid_under_another_name(write: Write) -> None:
    write(name="presets/fine.yaml", text="round_to: 4\n")
    assert compose(write(text="defaults: [presets/fine@stages.cut, _self_]\n")).data == {
        "stages": {"cut": {"round_to": 4}}
    }


def test_a_choice_that_a_base_makes_can_be_overridden(write: Write) -> None:
    write(name="size/big.yaml", text="depth: 56\n")
    write(name="size/small.yaml", text="depth: 20\n")
    write(name="base.yaml", text="defaults: [{size@model: big}, _self_]\n")
    path = write(text="defaults:\n- base\n- override size@model: small\n- _self_\n")
    assert compose(path).data == {"model": {"depth": 20}}
    path = write(text="defaults:\n- base\n- override size@model: smal\n- _self_\n")
    assert problems(path) == [
        "r.yaml:3:3: defaults.1: there is no file size/smal.yaml in the recipe's folder; "
        "did you mean 'small'?"
    ]


@pytest.mark.parametrize(("order", "seed", "place"), [
    ("[base, _self_]", 1, "r.yaml:2:7"),
    ("[_self_, base]", 2, "base.yaml:1:7"),
    ("[base, later, _self_]", 1, "r.yaml:2:7"),
    ("[_self_, later, base]", 2, "base.yaml:1:7"),
    ("[_self_, base, later]", 3, "later.yaml:2:7"),
])  # fmt: skip
def test_a_value_is_blamed_on_the_file_it_was_taken_from(
    order: str, seed: int, place: str, write: Write
) -> None:
    write(name="base.yaml", text="seed: 2\nmodel: {a: 1, b: [1, {c: 2}]}\n")
    write(name="later.yaml", text="# later\nseed: 3\n")
    path = write(text=f"defaults: {order}\nseed: 1\nmodel:\n  d: 1\n")
    assert compose(path).data["seed"] == seed
    assert where(path, "seed") == place
    composed = compose(path)
    assert str(composed.places.place(("model", "b", 1, "c"))) == "base.yaml:2:26"
    assert str(composed.places.place(("model", "b"))) == "base.yaml:2:18"
    assert str(composed.places.place(("model", "d"), at_key=True)) == "r.yaml:4:3"


def test_what_a_base_says_wrong_is_told_at_the_base(write: Write) -> None:
    write("importance: l2", "imporance: l2", name="base.yaml")
    path = write(text="defaults: [base, _self_]\nseed: -1\n")
    assert problems(path) == [
        "base.yaml:13:5: stages.cut.imporance: unknown key; did you mean 'importance'?",
        "r.yaml:2:7: seed: must be at least 0, not -1; it is: where every random choice starts from",
    ]


def test_mistakes_in_the_text_of_several_files_are_told_at_once(write: Write) -> None:
    write(name="one.yaml", text="a: &x 1\n")
    write(name="two.yaml", text="b: yes\n")
    path = write(text="defaults: [one, two, _self_]\n")
    assert [line.partition(": ")[0] for line in problems(path, "seed")] == [
        "one.yaml:1:4", "two.yaml:1:4", "command line",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("hydra/launcher: joblib", "a recipe cannot configure Hydra"),
        ("override /hydra/callbacks: x", "a recipe cannot configure Hydra"),
        ("x@hydra.callbacks: z", "a recipe cannot configure Hydra"),
        ("x@_global_.hydra: z", "a recipe cannot configure Hydra"),
        ("../secret", "names a file outside the recipe's folder"),
        ("a: ../../secret", "names a file outside the recipe's folder"),
        ("/etc/passwd", "there is no file etc/passwd.yaml in the recipe's folder"),
        ("${name}", "names a file outside the recipe's folder, or no file"),
        ("gone", "there is no file gone.yaml in the recipe's folder"),
        ("bese", "there is no file bese.yaml in the recipe's folder; did you mean 'base'?"),
        ("base.yaml", "there is no file base.yaml.yaml in the recipe's folder; write base, without .yaml"),
        ("link", "there is no file link.yaml in the recipe's folder"),
        ("r", "the files build on each other in a circle: r -> r"),
        ("3", "must name a file, or choose one from a folder; write `base`, or `folder: file`"),
        ("{a: b, c: d}", "must name a file, or choose one from a folder"),
        ("a: 3", "must name a file, or choose one from a folder"),
        ("override base", "must name a file, or choose one from a folder"),
        ("optional base", "must name a file, or choose one from a folder"),
        ("''", "must name a file, or choose one from a folder"),
    ],
)
def test_entries_that_name_no_file_of_the_folder_are_refused(
    entry: str, message: str, write: Write, tmp_path: Path
) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside.yaml"
    outside.write_text("seed: 1\n")
    Path("link.yaml").symlink_to(outside)
    write(name="base.yaml", text="seed: 1\n")
    (told,) = problems(write(text=f"defaults:\n- {entry}\n- _self_\nname: x\n"))
    assert told.startswith(f"r.yaml:2:3: defaults.0: {message}")


@pytest.mark.parametrize("listed", ["[base]", "[base, _self_, _self_]"])
def test_where_the_recipe_stands_among_its_bases_is_said_once(listed: str, write: Write) -> None:
    write(name="base.yaml", text="seed: 1\n")
    (told,) = problems(write(text=f"defaults: {listed}\nname: x\n"))
    assert told.startswith("r.yaml:1:11: defaults: must hold `_self_` once")


def test_a_defaults_that_is_no_list_is_refused(write: Write) -> None:
    assert problems(write(text="defaults: base\n")) == [
        "r.yaml:1:11: defaults: must be a list of files to build on; write `defaults: [base, _self_]`"
    ]


def test_a_circle_is_told_where_it_closes(write: Write) -> None:
    write(name="one.yaml", text="defaults: [two, _self_]\n")
    write(name="two.yaml", text="# two\ndefaults: [_self_, one]\n")
    assert problems(write(text="defaults: [one, _self_]\n")) == [
        "two.yaml:2:20: defaults.1: the files build on each other in a circle: one -> two -> one"
    ]


def test_a_file_that_two_bases_share_is_refused_because_it_would_undo_the_first(write: Write) -> None:
    write(name="shared.yaml", text="seed: 1\n")
    write(name="one.yaml", text="defaults: [shared, _self_]\nseed: 2\n")
    write(name="two.yaml", text="defaults: [shared, _self_]\n")
    assert problems(write(text="defaults: [one, two, _self_]\n")) == [
        "two.yaml:1:12: defaults.0: shared.yaml is built on twice, first at one.yaml:1:12; "
        "remove one: the second would undo what came after the first"
    ]


def test_files_that_multiply_are_stopped_early(write: Write) -> None:
    for level in range(40):
        inner = f"b{level + 1}"
        write(name=f"b{level}.yaml", text=f"defaults: [{inner}@x, {inner}@y, _self_]\n")
    write(name="b40.yaml", text="seed: 1\n")
    (told,) = problems(write(text="defaults: [b33, _self_]\n"))
    assert told.endswith(f"is more than {MAX_FILES} files")


def test_a_tower_of_files_is_stopped(write: Write) -> None:
    for level in range(40):
        write(name=f"b{level}.yaml", text=f"defaults: [b{level + 1}, _self_]\n")
    (told,) = problems(write(text="defaults: [b0, _self_]\n"))
    assert told == f"b{MAX_DEPTH - 1}.yaml:1:12: defaults.0: is more than {MAX_DEPTH} files deep"
