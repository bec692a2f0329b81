from __future__ import annotations

import shutil
from pathlib import Path

from tests.mcomp.cli.conftest import Answer, Command, Runs
from tests.tiny import write_recipes


def rows(answer: Answer) -> dict[str, list[str]]:
    """Return the cells of each line by its first."""
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in answer.out.splitlines()]
    return {line[0]: line[1:] for line in cells if line}


def test_two_recipes_differ_by_dotted_keys_with_their_defaults(mcomp: Command, tmp_path: Path) -> None:
    first = write_recipes(tmp_path / "a", "importance: l2", "importance: l1")
    second = write_recipes(tmp_path / "b", "pipeline: [distill, prune, qat, export]", "seed: 4")
    answer = mcomp("diff", first, second)
    told = rows(answer)
    assert answer.code == 0
    assert told["seed"] == ["0", "4"]
    assert told["stages.prune.importance"] == ["l1", "l2"]
    assert told["baseline.recipe"][0].startswith(str(tmp_path)[:40])  # long values are cut
    assert "pipeline" not in told  # the order that b leaves open is the same


def test_what_is_written_out_or_left_to_its_default_is_the_same(mcomp: Command, tmp_path: Path) -> None:
    first = write_recipes(tmp_path / "a")
    second = tmp_path / "a" / "again.yaml"
    second.write_text(first.read_text().replace("importance: l2", "importance: l2\n    nearest: false"))
    assert mcomp("diff", first, second).out.strip() == "the recipes say the same"


def test_a_stage_that_only_one_has_is_one_line(mcomp: Command, tmp_path: Path) -> None:
    first = write_recipes(tmp_path)
    second = tmp_path / "more.yaml"
    second.write_text(
        first.read_text()
        .replace("stages:\n", "stages:\n  more: {type: train, training: {epochs: 1}}\n")
        .replace("[distill, prune, qat, export]", "[distill, prune, more, qat, export]")
    )
    told = rows(mcomp("diff", first, second))
    assert list(told) == ["key", "pipeline", "stages.more"]
    assert told["stages.more"][0] == "not set"


def test_two_runs_differ_also_in_what_they_gave(mcomp: Command, runs: Runs) -> None:
    told = rows(mcomp("diff", runs.first, runs.changed, "--store", runs.store))
    assert told["key"] == [runs.first, runs.changed]
    assert told["stages.more.by"] == ["0.5", "0.75"]
    assert told["test accuracy"] == ["0.2500", "0.2500"]
    assert told["speedup at batch 1"][0].endswith("×")
    assert told["status"] == ["done", "done"]


def test_a_run_that_failed_has_no_figures(mcomp: Command, runs: Runs) -> None:
    told = rows(mcomp("diff", runs.first, runs.failed, "--store", runs.store))
    assert told["status"] == ["done", "failed"]
    assert told["test accuracy"] == ["0.2500", "–"]


def test_a_recipe_and_a_run_of_it_say_the_same(mcomp: Command, runs: Runs) -> None:
    answer = mcomp("diff", runs.recipe, runs.first, "--store", runs.store)
    assert answer.out.strip() == "the recipes say the same"


def test_what_is_neither_is_answered_with_what_is_there(mcomp: Command, runs: Runs) -> None:
    answer = mcomp("diff", "toy.yml", runs.first, "--store", runs.store)
    assert answer.code == 2
    assert "has no run toy.yml" in answer.err
    assert mcomp("diff", "missing.yaml", runs.first, "--store", runs.store).code == 2


def test_a_run_of_an_older_version_kept_no_recipe(mcomp: Command, runs: Runs, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(runs.store, store)
    (store / "runs" / runs.first / "recipe.yaml").unlink()
    answer = mcomp("diff", runs.first, runs.changed, "--store", store)
    assert answer.code == 2
    assert f"{runs.first}/recipe.yaml: no such file" in answer.err
