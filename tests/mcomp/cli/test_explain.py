from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from mcomp.plan import make_plan
from mcomp.recipe.build import load_recipe
from mcomp.scheduler import Scheduler, set_aside
from mcomp.store.store import Store
from tests.mcomp.cli.conftest import Answer, Command, Runs
from tests.mcomp.voices import Quiet


def told(answer: Answer) -> list[tuple[str, str]]:
    """Return how each step was done, and the line below it."""
    lines = answer.out.splitlines()
    return [
        (next(word for word in ("hit", "computed", "failed") if f" {word} " in line), below.strip())
        for line, below in itertools.pairwise(lines)
        if line[:1].isdigit()
    ]


def test_a_first_run_computes_what_never_ran(mcomp: Command, runs: Runs) -> None:
    answer = mcomp("explain", runs.first, "--store", runs.store)
    assert answer.code == 0
    assert set(told(answer)) == {("computed", "never run")}


def test_a_changed_run_says_what_changed_and_where_the_rest_comes_from(mcomp: Command, runs: Runs) -> None:
    answer = mcomp("explain", runs.changed, "--store", runs.store)
    assert told(answer) == [
        ("hit", f"made in {runs.first}"),
        ("computed", "by: 0.5 -> 0.75"),
        ("computed", "its input changed (see step 2)"),
        ("hit", f"made in {runs.first}"),
    ]
    assert "steps 1, 2, 3, 4 made on: " in answer.out
    assert "torch " in answer.out


def test_the_last_run_is_explained_by_default_and_a_failure_by_its_error(mcomp: Command, runs: Runs) -> None:
    answer = mcomp("explain", "--store", runs.store)
    assert runs.failed in answer.out
    assert told(answer)[1] == ("failed", "toy/more: fc: cannot do it")


def test_what_was_made_anew_on_request_says_so_and_when_it_ended(
    mcomp: Command, runs: Runs, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    shutil.copytree(runs.store, store.root)
    plan = make_plan(load_recipe(runs.recipe))
    set_aside(plan, store)
    run = Scheduler(plan, store, Quiet()).execute().run
    answer = mcomp("explain", run.id, "--store", store.root)
    assert set(told(answer)) == {("computed", "its former result was set aside, or is broken or gone")}
    ended = [event["time"] for event in run.events() if event["event"] == "step ended"]
    assert all(time[:19].replace("T", " ") in answer.out for time in ended)


def test_a_result_that_is_gone_cannot_be_explained(mcomp: Command, runs: Runs, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    shutil.copytree(runs.store, store.root)
    set_aside(make_plan(load_recipe(runs.recipe)), store)
    answer = mcomp("explain", runs.first, "--store", store.root)
    assert answer.code == 0
    assert {why for _, why in told(answer)} == {
        "its result is gone from the store: why it was computed is not known any more"
    }
    assert "made on" not in answer.out


def test_an_unknown_run_is_answered_with_the_nearest(mcomp: Command, runs: Runs) -> None:
    answer = mcomp("explain", runs.first[:-1], "--store", runs.store)
    assert answer.code == 2
    assert "has no run" in answer.err
    assert "did you mean" in answer.err
    empty = mcomp("explain", "--store", runs.store.parent / "none")
    assert (empty.code, "has no run yet; start one with mcomp run" in empty.err) == (2, True)
