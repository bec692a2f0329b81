"""`run --until`, `--from` and `--quick`: what is done, what is kept, and what says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcomp.store.ledger import Ledger
from mcomp.store.store import Store
from tests.mcomp.cli.conftest import Answer, Command
from tests.mcomp.toys import RECIPE


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(RECIPE + "require: {size_ratio: {min: 1000}}\n")
    return tmp_path


@pytest.fixture
def run(mcomp: Command) -> Command:
    def run(*arguments: str) -> Answer:
        return mcomp("run", "toy.yaml", *arguments, "--store", "kept")

    return run


def ledger() -> Ledger:
    """Return the ledger of the last run."""
    store = Store(Path("kept"))
    return store.run(store.runs()[0]).read_ledger()


def states() -> list[str]:
    """Return the stages of the last run, and how their results came."""
    return [f"{row.stage} {row.status}" for row in ledger().rows]


def test_until_stops_after_a_stage_and_the_rest_goes_on_from_there(run: Command) -> None:
    assert run("--until", "more").code == 0
    assert states() == ["fit computed", "more computed"]
    assert run().code == 3
    assert states()[:2] == ["fit hit", "more hit"]


def test_from_computes_a_stage_again_and_what_follows_and_keeps_the_old_results(run: Command) -> None:
    run()
    assert run("--from", "more").code == 3
    assert states() == ["fit hit", "more computed", "export computed", "export of the baseline hit"]
    assert len(list(Path("kept/replaced").iterdir())) == 2


def test_from_and_until_together_are_a_stretch_of_the_pipeline(run: Command) -> None:
    run()
    assert run("--from", "fit", "--until", "more").code == 0
    assert states() == ["fit computed", "more computed"]


@pytest.mark.parametrize("option", ["--from", "--until"])
def test_a_stage_that_is_not_there_is_refused_before_anything_is_done(option: str, run: Command) -> None:
    answer = run(option, "exprot")
    assert (answer.code, answer.out) == (2, "")
    said = (
        f"command line: {option} exprot: there is no stage 'exprot' in the pipeline; did you mean 'export'?"
    )
    assert answer.err == said + "\n"
    assert not Path("kept").exists()


@pytest.mark.parametrize("options", [["--quick"], ["--until", "more"], ["--from", "more"]])
def test_a_sweep_has_no_parts(options: list[str], run: Command) -> None:
    answer = run("-m", "seed=0,1", *options)
    assert answer.code == 2
    assert "are for a single run: leave out -m" in answer.err


def test_a_quick_run_says_so_everywhere_and_is_not_judged(run: Command, mcomp: Command) -> None:
    answer = run("--quick")
    assert answer.code == 0, answer.err
    assert (ledger().quick, ledger().recipe, ledger().require) == (True, "toy-quick", ())
    assert "-toy-quick-" in ledger().run
    note = "a first look on a part of the data: these figures are no results, and nothing is judged"
    assert note in answer.out
    assert mcomp("report", "--store", "kept", "--html", "page.html").code == 0
    assert note in Path("page.html").read_text()
    assert "toy-quick/fit" in mcomp("plan", "toy.yaml", "--quick", "--store", "kept").out


def test_a_quick_run_and_a_real_one_never_share_a_result(run: Command) -> None:
    run("--quick")
    run()
    assert {row.status for row in ledger().rows} == {"computed"}
    assert not ledger().quick
    run("--quick")
    assert {row.status for row in ledger().rows} == {"hit"}


def test_a_plan_of_a_part_shows_that_part(mcomp: Command) -> None:
    shown = mcomp("plan", "toy.yaml", "--until", "fit", "--store", "kept")
    assert "1 steps, 1 to do" in shown.out
