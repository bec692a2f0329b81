from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp.store.store import Store
from mcomp.store.sweeps import SweepRecord
from mcomp.sweep.jobs import Sweep
from mcomp.sweep.run import SweepRun
from tests.mcomp.sweep.hazards import RECIPE
from tests.mcomp.voices import Quiet

IMPORTS = ("tests.mcomp.sweep.hazards",)


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Path]:
    """Write the recipe of the hazards with some lines added, and return its path."""

    def recipe(added: str = "") -> Path:
        path = tmp_path / "hazard.yaml"
        path.write_text(RECIPE + added)
        return path

    return recipe


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", on_problem=lambda message: None)


@pytest.fixture
def run(recipe: Callable[[str], Path], store: Store) -> Callable[..., SweepRecord]:
    """Run a sweep over the recipe in this process, and what its launcher starts."""

    def run(*overrides: str, added: str = "", reporter: Quiet | None = None) -> SweepRecord:
        sweep = Sweep.resolve(recipe(added), overrides)
        return SweepRun(sweep, store, reporter or Quiet(), IMPORTS).execute()

    return run


def computations(store: Store) -> list[str]:
    """Return the names of the steps that any run began to compute, one for each time."""
    events = [event for run in store.runs() for event in store.run(run).events()]
    return sorted(event["step"] for event in events if event["event"] == "step started")
