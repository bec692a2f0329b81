from __future__ import annotations

from pathlib import Path

import pytest

from mcomp.plan import Plan, make_plan
from mcomp.recipe.build import load_recipe
from mcomp.store.store import Store
from tests.mcomp.scheduler.runs import MakePlan
from tests.mcomp.toys import RECIPE


@pytest.fixture
def plan(tmp_path: Path) -> MakePlan:
    """Return the plan of the toy recipe with some of its text replaced."""

    def plan(old: str = "", new: str = "", overrides: tuple[str, ...] = ()) -> Plan:
        assert old in RECIPE
        path = tmp_path / "toy.yaml"
        path.write_text(RECIPE.replace(old, new) if old else RECIPE)
        return make_plan(load_recipe(path, overrides))

    return plan


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", on_problem=lambda message: None)
