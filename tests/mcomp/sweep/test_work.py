from __future__ import annotations

from pathlib import Path

import pytest

from mcomp.scheduler import Scheduler
from mcomp.store.store import Store
from mcomp.sweep.jobs import Sweep
from mcomp.sweep.work import Work
from tests.mcomp.toys import RECIPE
from tests.mcomp.voices import Quiet

# Both jobs end in the same file, and ask different things of it.
SAME_FILE = "require: {size_ratio: {min: 0.5}}\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def sweep(tmp_path: Path, *overrides: str) -> Sweep:
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE + SAME_FILE)
    return Sweep.resolve(path, overrides)


def test_a_file_whose_figures_are_not_known_is_measured_by_one_job_at_a_time(
    tmp_path: Path, store: Store
) -> None:
    both = sweep(tmp_path, "require.size_ratio.min=0.5,0.6")
    Scheduler(both.plans[0], store, Quiet()).execute()
    assert Work(both, store).missing == {}
    export = both.plans[0].pipeline["export"]
    store.disk.remove(store.root / "measurements" / export)
    assert Work(both, store).missing == dict.fromkeys((0, 1), frozenset({f"figures of {export}"}))
    assert Work(both, store).waves == [[0], [1]]


def test_a_job_misses_the_steps_that_are_not_stored(tmp_path: Path, store: Store) -> None:
    jobs = sweep(tmp_path, "stages.more.by=0.25,0.75")
    Scheduler(jobs.plans[0], store, Quiet()).execute()
    work = Work(jobs, store)
    pipeline = jobs.plans[1].pipeline
    wanted = {pipeline["more"], pipeline["export"], f"figures of {pipeline['export']}"}
    assert work.missing == {1: wanted}
