"""Students of a sweep share what their teacher says: it is asked once for all of them, across runs too."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcomp.stage import Checkpoint
from mcomp.store.store import Store
from mcomp.sweep.jobs import Sweep
from mcomp.sweep.run import SweepRun
from mcomp_stages.data.digits import DigitsConfig
from mcomp_stages.methods.distillation import teachers
from tests.mcomp.voices import Quiet
from tests.tiny import write_recipes

STUDENTS = "seed=1,2,3,4"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the number of samples of every time that a teacher is asked about a whole split."""
    sizes: list[int] = []
    known = teachers.asked_once

    def counted(*arguments: object) -> Checkpoint:
        answers: Checkpoint = known(*arguments)  # type: ignore[arg-type]
        sizes.append(len(answers.tensors[teachers.INDICES]))
        return answers

    monkeypatch.setattr(teachers, "asked_once", counted)
    return sizes


def swept(store: Store, *overrides: str) -> list[str]:
    sweep = Sweep.resolve(Path("tiny.yaml"), ("pipeline=[distill]", "~require", *overrides))
    return [job.status for job in SweepRun(sweep, store, Quiet()).execute().jobs]


def test_a_sweep_of_four_students_asks_their_teacher_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[int]
) -> None:
    monkeypatch.chdir(write_recipes(tmp_path / "here").parent)
    store = Store(tmp_path / "store")
    assert swept(store, STUDENTS) == ["done"] * 4
    assert len(asked) == 1
    assert swept(store, "stages.distill.loss={type: dist}") == ["done"]
    assert len(asked) == 1


def test_samples_that_changed_are_asked_about_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[int]
) -> None:
    monkeypatch.chdir(write_recipes(tmp_path / "here").parent)
    store = Store(tmp_path / "store")
    assert swept(store) == ["done"]
    monkeypatch.setattr(DigitsConfig, "digest", lambda self: "other images")
    assert swept(store) == ["done"]
    assert len(asked) == 2
