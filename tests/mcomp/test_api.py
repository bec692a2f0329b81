from __future__ import annotations

from pathlib import Path

import pytest

import mcomp
from mcomp.errors import PluginError, RecipeError, StageError
from tests.mcomp.toys import RECIPE
from tests.mcomp.voices import Quiet


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_is_run_from_python(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = mcomp.run(recipe, store=tmp_path / "store")
    assert outcome.ledger.status == "done"
    assert [row.stage for row in outcome.ledger.rows] == ["fit", "more", "export", "export of the baseline"]
    assert outcome.files["export"].read_bytes()
    assert outcome.exit_code == 0
    assert capsys.readouterr() == ("", "")


def test_the_store_is_shared_with_the_command_line(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default is the same, and so are the keys."""
    from mcomp.cli import exit_code

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MCOMP_STORE", raising=False)
    assert exit_code(["run", "toy.yaml"]) == 0
    assert {row.status for row in mcomp.run(recipe).ledger.rows} == {"hit"}
    assert {row.status for row in mcomp.run("toy.yaml").ledger.rows} == {"hit"}


@pytest.mark.parametrize(("given", "used"), [("elsewhere", "elsewhere"), ("", ".mcomp")])
def test_the_environment_names_the_store_for_both(
    given: str, used: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mcomp.cli import exit_code

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MCOMP_STORE", given)
    assert exit_code(["run", "toy.yaml"]) == 0
    assert (tmp_path / used / "store.json").exists()
    assert {row.status for row in mcomp.run(recipe).ledger.rows} == {"hit"}
    assert {row.status for row in mcomp.run(recipe, store=tmp_path / "named").ledger.rows} == {"computed"}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["named", "toy.yaml", used])


def test_overrides_are_written_as_on_the_command_line(recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    mcomp.run(recipe, store=store)
    changed = mcomp.run(recipe, ["stages.more.by=0.75", "seed=0"], store=store)
    assert [row.status for row in changed.ledger.rows] == ["hit", "computed", "computed", "hit"]
    assert changed.ledger.overrides == ("stages.more.by=0.75", "seed=0")


def test_fresh_computes_again(recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    mcomp.run(recipe, store=store)
    assert {row.status for row in mcomp.run(recipe, store=store, fresh=True).ledger.rows} == {"computed"}


def test_a_requirement_that_is_not_met_raises_nothing(recipe: Path, tmp_path: Path) -> None:
    outcome = mcomp.run(recipe, ["require.size_ratio={min: 9}"], store=tmp_path / "store")
    assert (outcome.ledger.status, outcome.exit_code) == ("require not met", 3)
    assert outcome.files["export"].is_file()


def test_errors_are_raised(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown key"):
        mcomp.run(recipe, ["stages.more.bi=1"], store=tmp_path / "store")
    with pytest.raises(PluginError, match="there is no module not_mine"):
        mcomp.run(recipe, imports=["not_mine"], store=tmp_path / "store")
    assert not (tmp_path / "store").exists()
    recipe.write_text(RECIPE.replace("toy.fit, by: 0.5", "toy.broken"))
    with pytest.raises(StageError, match="toy/more: ZeroDivisionError: half way"):
        mcomp.run(recipe, store=tmp_path / "store")


def test_a_reporter_of_ones_own_is_told_what_happens(recipe: Path, tmp_path: Path) -> None:
    reporter = Quiet()
    mcomp.run(recipe, store=tmp_path / "store", reporter=reporter)
    assert reporter.steps[:4] == ["1/4 toy/fit", "fit computed", "2/4 toy/more", "more computed"]


def test_what_is_found_broken_is_told_to_the_reporter(recipe: Path, tmp_path: Path) -> None:
    first = mcomp.run(recipe, store=tmp_path / "store")
    first.files["export"].write_bytes(b"spoilt")
    reporter = Quiet()
    second = mcomp.run(recipe, store=tmp_path / "store", reporter=reporter)
    assert second.files["export"].read_bytes() != b"spoilt"
    assert len(reporter.warned) == 1
    assert "it was moved to" in reporter.warned[0]
