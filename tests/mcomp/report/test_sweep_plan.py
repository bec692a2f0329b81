from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from mcomp.report.sweep_plan import Branch, sweep_branches, sweep_plan_json, sweep_tree
from mcomp.scheduler import Scheduler
from mcomp.store.store import Store
from mcomp.sweep.jobs import Sweep
from mcomp.sweep.work import Work
from tests.mcomp.toys import RECIPE
from tests.mcomp.voices import Quiet

SWEPT = ("seed=0,1", "stages.more.by=0.25,0.5,0.75")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """Return what six jobs of two seeds have to do in a store that has the first of them."""
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    sweep, store = Sweep.resolve(path, SWEPT), Store(tmp_path / "store")
    Scheduler(sweep.plans[0], store, Quiet()).execute()
    return Work(sweep, store)


def flat(branches: tuple[Branch, ...], before: tuple[str, ...] = ()) -> dict[int, tuple[str, ...]]:
    """Return the keys on the way to each job."""
    ways: dict[int, tuple[str, ...]] = {}
    for branch in branches:
        way = (*before, *(step.key for step in branch.steps))
        ways |= flat(branch.branches, way) if branch.branches else {branch.jobs[0]: way}
    return ways


def printed(work: Work) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(sweep_tree(work))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_job_is_a_leaf_and_the_way_to_it_is_its_steps(work: Work) -> None:
    ways = flat(sweep_branches(work))
    assert sorted(ways) == list(range(6))
    for number, plan in enumerate(work.sweep.plans):
        assert sorted(ways[number]) == sorted(step.key for step in plan.steps)


def test_a_step_stands_behind_what_it_needs(work: Work) -> None:
    for way in flat(sweep_branches(work)).values():
        for at, key in enumerate(way):
            assert set(work.sweep.steps[key].needs()) <= set(way[:at])


def test_shared_steps_are_drawn_once_with_the_number_of_jobs(work: Work) -> None:
    shown = printed(work)
    assert shown.count("toy/fit ") == 2
    assert shown.count("toy.fit  to do  for 3 jobs") == 1
    assert shown.count("toy.fit  in store  for 3 jobs") == 1
    assert shown.count("more to do") == 5


def test_the_counts_are_those_of_the_run(work: Work) -> None:
    first, second = printed(work).splitlines()[:2]
    assert first == "6 jobs: 5 to start, in 2 waves; 1 in the store"
    assert second == "16 steps: 12 to do"


def test_a_step_that_two_branches_share_is_to_do_once(tmp_path: Path) -> None:
    """A pipeline without `more` is the baseline of the other, so that its export stands in both branches."""
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    sweep = Sweep.resolve(path, ("pipeline=[fit,export],[fit,more,export]", "seed=0"))
    shown = printed(Work(sweep, Store(tmp_path / "store")))
    assert shown.count("to do") - 1 == len(sweep.steps) == 4


def test_jobs_that_differ_in_no_step_are_leaves_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    sweep = Sweep.resolve(path, ("stages.more.note=a,b",))
    work = Work(sweep, Store(tmp_path / "store"))
    assert sorted(flat(sweep_branches(work))) == [0, 1]
    assert work.waves == [[0], [1]]


def test_json_has_the_waves_of_the_jobs_that_start(work: Work) -> None:
    told = sweep_plan_json(work)
    assert told["waves"] == work.waves
    assert [job["wave"] for job in told["jobs"]] == [None, 0, 0, 0, 1, 1]
    assert sum(not step["stored"] for step in told["steps"].values()) == 12
    assert all(key in told["steps"] for job in told["jobs"] for key in job["steps"])
