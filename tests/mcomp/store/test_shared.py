from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mcomp.recipe.schema import RecipeRef
from mcomp.stage import Checkpoint
from mcomp.store.shared import TENSORS, SharedResults
from mcomp.store.store import Store
from tests.mcomp.training.setting import Quiet

TEACHER = RecipeRef(recipe="teacher.yaml")
WHAT = {"kind": "answers", "at": ["layer1"]}


class Work:
    """Something to compute, and how often it was."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Checkpoint:
        self.times += 1
        return Checkpoint({"output": torch.arange(3.0)}, {"samples": 3})


def shared(root: Path, **changes: Any) -> SharedResults:
    store = Store(root, on_problem=lambda message: None)
    fields = {"keys": {TEACHER: "a" * 64}, "depends_on": {"data": {"content": "x"}}}
    return SharedResults(store, "student/distill", reporter=Quiet(), **{**fields, **changes})


def test_what_was_computed_is_found_by_another_step(tmp_path: Path) -> None:
    work = Work()
    first = shared(tmp_path).get(WHAT, TEACHER, work)
    second = replace(shared(tmp_path), step="other/recover").get(WHAT, TEACHER, work)
    assert work.times == 1
    assert torch.equal(first.tensors["output"], second.tensors["output"])
    assert second.numbers == {"samples": 3}


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        (WHAT, {"depends_on": {"data": {"content": "y"}}}),
        (WHAT, {"depends_on": {"data": {"content": "x"}, "environment": {"threads": "2"}}}),
        (WHAT, {"keys": {TEACHER: "b" * 64}}),
        ({**WHAT, "at": []}, {}),
    ],
    ids=["other data", "other environment", "other teacher", "other places"],
)
def test_what_depends_on_something_else_is_computed_again(
    what: dict[str, Any], changes: dict[str, Any], tmp_path: Path
) -> None:
    work = Work()
    shared(tmp_path).get(WHAT, TEACHER, work)
    shared(tmp_path, **changes).get(what, TEACHER, work)
    assert work.times == 2


def test_one_flipped_bit_is_found_and_the_result_computed_again(tmp_path: Path) -> None:
    work = Work()
    shared(tmp_path).get(WHAT, TEACHER, work)
    (file,) = tmp_path.glob(f"artifacts/*/*/{TENSORS}")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert torch.equal(shared(tmp_path).get(WHAT, TEACHER, work).tensors["output"], torch.arange(3.0))
    assert work.times == 2
    assert len(list(tmp_path.glob("quarantine/*"))) == 1


def test_what_was_cleaned_away_is_computed_again(tmp_path: Path) -> None:
    work = Work()
    shared(tmp_path).get(WHAT, TEACHER, work)
    for folder in tmp_path.glob("artifacts/*"):
        shutil.rmtree(folder)
    shared(tmp_path).get(WHAT, TEACHER, work)
    assert work.times == 2
