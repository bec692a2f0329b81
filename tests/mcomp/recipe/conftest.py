"""A distribution of plugins made for these tests, so that they do not depend on the built-in ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

MODULE = '''
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mcomp.config import Config
from mcomp.data.contract import DataConfig, DataFacts
from mcomp.model.spec import ModelConfig
from mcomp.recipe.schema import RecipeRef
from mcomp.stage import Form, StageConfig
from mcomp.task import TaskConfig
from mcomp.training.config import Training


class Target(Config):
    macs: Annotated[float | None, Field(gt=0, lt=1, description="the share of multiply-adds to keep")] = None
    params: Annotated[float | None, Field(gt=0, lt=1)] = None

    @model_validator(mode="after")
    def one(self):
        if (self.macs is None) == (self.params is None):
            raise ValueError("needs exactly one of macs and params")
        return self


class Train(StageConfig):
    """Learn."""

    forms = {Form.UNTRAINED: Form.FLOAT, Form.FLOAT: Form.FLOAT}
    type: Literal["lab.train"]
    training: Training
    teachers: tuple[RecipeRef, ...] = ()


class Prune(StageConfig):
    """Cut."""

    forms = {Form.FLOAT: Form.FLOAT}
    type: Literal["lab.prune"]
    importance: Literal["l1", "l2", "random"] = "l2"
    target: Target
    layers: str | tuple[str, ...] = "*"
    round_to: Annotated[int, Field(ge=1)] = 8


class Export(StageConfig):
    """Write a file."""

    forms = {Form.FLOAT: Form.FLOAT}
    exports = "onnxruntime"
    type: Literal["lab.export"]


class Net(ModelConfig):
    type: Literal["lab.net"]
    depth: Literal[20, 56] = 20
    num_classes: int | None = None

    def fitted_to(self, facts):
        return self.model_copy(update={"num_classes": self.num_classes or facts.num_classes})


class Images(DataConfig):
    type: Literal["lab.images"]

    def facts(self):
        return DataFacts(num_classes=7)


class Sorting(TaskConfig):
    type: Literal["lab.sorting"]
'''

ENTRY_POINTS = """
[mcomp.stages]
lab.train = lab_plugins:Train
lab.prune = lab_plugins:Prune
lab.export = lab_plugins:Export
lab.broken = lab_missing:Broken

[mcomp.models]
lab.net = lab_plugins:Net

[mcomp.data]
lab.images = lab_plugins:Images

[mcomp.tasks]
lab.sorting = lab_plugins:Sorting
"""

RECIPE = """\
version: 1
name: small
model: {type: lab.net, depth: 20}
data: {type: lab.images}
task: {type: lab.sorting}
pipeline: [learn, cut, write]
stages:
  learn:
    type: lab.train
    training: {epochs: 2, optimizer: {type: sgd, lr: 1e-3}}
  cut:
    type: lab.prune
    importance: l2
    target: {macs: 0.5}
  write: {type: lab.export}
require:
  speedup: {min: 2.0}
"""


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "lab_plugins.py").write_text(MODULE)
    information = folder / "lab-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


@pytest.fixture(autouse=True)
def in_a_folder_of_recipes(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(lab)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write() -> Callable[..., Path]:
    """Write a recipe with some of its text replaced; places are then relative to the folder: `r.yaml:4:7`."""

    def write(old: str = "", new: str = "", *, name: str = "r.yaml", text: str = RECIPE) -> Path:
        assert old in text
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(old, new, 1) if old else text, encoding="utf-8")
        return path

    return write
