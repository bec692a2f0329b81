"""The command line in this process, and a store with three runs of the toy recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcomp.cli import exit_code
from mcomp.errors import StageError
from mcomp.plan import make_plan
from mcomp.recipe.build import load_recipe
from mcomp.scheduler import Scheduler
from mcomp.store.store import Store
from tests.mcomp.toys import RECIPE
from tests.mcomp.voices import Quiet


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def mcomp(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command with wide lines."""
    monkeypatch.setenv("COLUMNS", "220")

    def mcomp(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        code = exit_code([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return mcomp


@dataclass(frozen=True)
class Runs:
    """A store and its runs: the toy recipe, the same with a later stage changed, and one that failed."""

    recipe: Path
    store: Path
    first: str
    changed: str
    failed: str


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    store = Store(folder / "store")
    (folder / "toy.yaml").write_text(RECIPE)
    broken = RECIPE.replace("more: {type: toy.fit, by: 0.5}", "more: {type: toy.broken, error: stage}")
    (folder / "broken.yaml").write_text(broken)
    for name, overrides in (("toy", ()), ("toy", ("stages.more.by=0.75",)), ("broken", ())):
        plan = make_plan(load_recipe(folder / f"{name}.yaml", overrides))
        try:
            Scheduler(plan, store, Quiet()).execute()
        except StageError:
            assert name == "broken"
    failed, changed, first = store.runs()
    return Runs(folder / "toy.yaml", store.root, first, changed, failed)
