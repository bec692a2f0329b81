from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp.plan import make_plan
from mcomp.recipe.build import LoadedRecipe, load_recipe
from mcomp.recipe.load import load
from mcomp.recipe.resolved import resolved, resolved_text
from mcomp.scheduler import Scheduler
from mcomp.store.store import Store
from tests.mcomp.recipe.conftest import RECIPE
from tests.mcomp.toys import RECIPE as TOY
from tests.mcomp.voices import Quiet
from tests.tiny import write_recipes

Write = Callable[..., Path]


def keys(loaded: LoadedRecipe) -> list[str]:
    return [step.key for step in make_plan(loaded).steps]


def stored(loaded: LoadedRecipe, folder: Path) -> LoadedRecipe:
    """Return the recipe as a run keeps it, in another folder."""
    folder.mkdir(parents=True)
    path = folder / "recipe.yaml"
    path.write_text(resolved_text(loaded, "20260131-101500-tiny-3fa1", "2026-01-31T10:15:00+00:00"))
    return load_recipe(path)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("seed=3", "stages.prune.target.macs=0.4", "~stages.prune.recover"),
        ("stages.distill.teachers=[{recipe: teacher.yaml, overrides: ['seed=1']}]",),
        ("pipeline=[distill,qat,export]", "+stages.again={type: train, training: {epochs: 1}}"),
        ("+task={type: classification}", "require.speedup=[{min: 1.5}]", "compute.threads=1"),
    ],
)
def test_the_recipe_of_a_run_has_the_same_keys_from_anywhere(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    write_recipes(tmp_path / "recipes")
    # A relative path, as it is mostly given on the command line.
    loaded = load_recipe(Path(os.path.relpath(tmp_path / "recipes" / "tiny.yaml")), overrides)
    again = stored(loaded, tmp_path / "elsewhere" / "run")
    assert keys(again) == keys(loaded)
    assert again.recipe.require == loaded.recipe.require
    assert again.recipe.order() == loaded.recipe.order()


def test_a_checkpoint_and_files_of_data_are_found_from_elsewhere(tmp_path: Path) -> None:
    path = write_recipes(
        tmp_path / "recipes", "model: {type: lenet5}", "model: {type: lenet5, checkpoint: w/a.pt}"
    )
    (path.parent / "w").mkdir()
    (path.parent / "w" / "a.pt").write_bytes(b"weights")
    loaded = load_recipe(path, ("~baseline",))
    assert keys(stored(loaded, tmp_path / "run")) == keys(loaded)


def test_bases_and_references_are_written_out(write: Write) -> None:
    write(name="base.yaml", text=RECIPE)
    text = (
        "defaults: [base, _self_]\nname: other\nseed: 7\nstages: {learn: {training: {epochs: '${seed}'}}}\n"
    )
    path = write(name="r.yaml", text=text.replace("'", '"'))
    plain = resolved(load_recipe(path))
    assert plain["name"] == "other"
    assert plain["stages"]["learn"]["training"]["epochs"] == 7
    assert "defaults" not in plain


def test_what_run_m_would_try_is_not_part_of_one_run(write: Write) -> None:
    path = write("version: 1\n", "version: 1\nsweep: {parameters: {seed: [1, 2]}}\n")
    assert "sweep" not in resolved(load_recipe(path))


def test_the_header_says_where_a_recipe_comes_from_and_cannot_break_out(write: Write) -> None:
    text = resolved_text(load_recipe(write(), ("description='a\u2028b'",)), "run-id", "2026-01-31")
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert header == [
        "# The recipe of the run run-id (2026-01-31) as it was resolved.",
        "# To repeat it: mcomp run recipe.yaml",
        f"# From {Path('r.yaml').absolute()}",
        "# with description='a\N{REPLACEMENT CHARACTER}b'",
    ]


def test_modules_of_a_persons_own_are_named_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    assert "mcomp run --import tests.mcomp.toys recipe.yaml" in resolved_text(load_recipe(path), "id", "now")


def test_it_is_read_by_the_strict_reader_as_it_was_resolved(write: Write, tmp_path: Path) -> None:
    loaded = load_recipe(write("name: small", 'name: small\ndescription: "yes\\n# no: 010 \\u2014 \\e"'))
    path = tmp_path / "again.yaml"
    path.write_text(resolved_text(loaded, "id", "now"), encoding="utf-8")
    assert load(path).data == resolved(loaded)


def test_running_the_recipe_of_a_run_computes_nothing(tmp_path: Path) -> None:
    path, store = tmp_path / "toy.yaml", Store(tmp_path / "store")
    path.write_text(TOY)
    first = Scheduler(make_plan(load_recipe(path, ("stages.more.by=0.25",))), store, Quiet()).execute()
    path.unlink()
    again = Scheduler(make_plan(load_recipe(first.run.recipe_file)), store, Quiet()).execute()
    assert {row.status for row in again.ledger.rows} == {"hit"}
    assert again.files == first.files
