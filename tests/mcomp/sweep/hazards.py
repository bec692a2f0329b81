"""A stage that ends badly, and a recipe of it; importing this module registers it, as `--import` does."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Literal

from mcomp import plugins
from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.stage import Context, Form, StageConfig, StageResult
from tests.mcomp.toys import ToyFit

HANGING = "hanging"

RECIPE = """\
version: 1
name: hazard
model: {type: toy.net}
data: {type: toy.points}
stages:
  fit: {type: toy.fit, by: 1.0}
  more: {type: hazard.fit, by: 0.5}
"""


@plugins.stage("hazard.fit")
class HazardFit(StageConfig):
    """Adds a number; is killed, fails, or waits for as long as there is a file in a folder."""

    forms = {Form.FLOAT: Form.FLOAT}
    type: Literal["hazard.fit"] = "hazard.fit"
    by: float = 1.0
    hazard: Literal["none", "killed", "killed once", "fails", "waits"] = "none"
    folder: str = ""

    def run(self, model: Model, context: Context) -> StageResult:
        HAZARDS[self.hazard](Path(self.folder))
        return ToyFit(by=self.by).run(model, context)


def kill(folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_once(folder: Path) -> None:
    if not (folder / "killed").exists():
        (folder / "killed").touch()
        kill(folder)


def fail(folder: Path) -> None:
    raise StageError("cannot do it")


def wait(folder: Path) -> None:
    (folder / f"{HANGING}-{os.getpid()}").touch()
    while (folder / "wait").exists():
        time.sleep(0.02)


HAZARDS = {
    "none": lambda folder: None,
    "killed": kill,
    "killed once": kill_once,
    "fails": fail,
    "waits": wait,
}
