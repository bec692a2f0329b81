"""Print what a teacher and peers cost: an epoch with cached answers, and an epoch of mutual learning.

python tests/benchmarks/distillation_time.py --rounds 7

Trainings in turns, processor time, one thread. An epoch is what a longer training takes more than a shorter
one, by epoch, validation included. The answers of the teacher are there before, as they are for every
stage and job but the first.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.model.spec import ModelConfig
from mcomp.recipe.schema import RecipeRef
from mcomp.stage import Checkpoint
from mcomp_stages.data.mnist5k import Mnist5kConfig
from mcomp_stages.distill.offline import DistillOffline
from mcomp_stages.distill.online import DistillOnline
from mcomp_stages.methods.distillation.fresh import fresh
from mcomp_stages.models.lenet5 import LeNet5Config
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.train.supervised import Train
from tests.benchmarks.distillation import context

SHAPE = {"in_channels": 1, "num_classes": 10}
LENET = LeNet5Config.model_validate({**SHAPE, "image_size": 20})
RESNET = ResNetConfig.model_validate({**SHAPE, "depth": 20, "width": 8})
STUDENTS: dict[str, ModelConfig] = {"LeNet-5": LENET, "ResNet-20 of width 8": RESNET}
SHORT, LONG = 1, 5
REFERENCE = RecipeRef(recipe="teacher")
LOSSES: dict[str, Any] = {
    "kd": {"type": "kd"},
    "dkd": {"type": "dkd"},
    "dist": {"type": "dist"},
}


@dataclass
class Kept:
    """Answers in memory, as the store gives them."""

    kept: dict[str, Checkpoint] = field(default_factory=dict)

    def get(self, what: Mapping[str, Any], of: RecipeRef, compute: Callable[[], Checkpoint]) -> Checkpoint:
        name = str(sorted(what.items()))
        if name not in self.kept:
            self.kept[name] = compute()
        return self.kept[name]


def seconds(work: Callable[[int], object], epochs: int) -> float:
    """Return the processor time that a training of so many epochs takes."""
    start = time.process_time()
    work(epochs)
    return time.process_time() - start


def in_turns(works: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, float]:
    """Return the median time of an epoch of each, in turns, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            taken = seconds(work, LONG) - seconds(work, SHORT)
            if number:
                times[name].append(taken / (LONG - SHORT))
    return {name: median(taken) for name, taken in times.items()}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="medians of so many are shown (default: 7)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    data = Mnist5kConfig.model_validate({"image_size": 20}).load()
    teacher = fresh(RESNET, 0, "teacher")
    setting = replace(context(data, 0, {REFERENCE: teacher}), shared=Kept())

    def training(kind: Any, spec: ModelConfig, **fields: Any) -> Callable[[int], object]:
        def done(epochs: int) -> object:
            stage = kind.model_validate({"training": {"epochs": epochs}, **fields})
            return stage.run(fresh(spec, 0, "student"), setting)

        return done

    for student, spec in STUDENTS.items():
        print(f"{student} on 1,000 images, the teacher's answers cached", flush=True)
        works = {"labels alone": training(Train, spec)}
        for name, loss in LOSSES.items():
            works[name] = training(DistillOffline, spec, teachers=[REFERENCE], loss=loss)
        shown(in_turns(works, rounds), 1)
    print("two ResNet-20 of width 8")
    works = {
        "one alone": training(Train, RESNET),
        "two that learn together": training(DistillOnline, RESNET, keep="first"),
    }
    shown(in_turns(works, max(2, rounds // 3)), 2)


def shown(times: Mapping[str, float], trainings: int) -> None:
    """Print times, and their ratio to the first, done so many times."""
    first = next(iter(times.values())) * trainings
    for name, taken in times.items():
        print(f"{name:26s} {taken:7.3f} s {taken / first:6.3f}")


if __name__ == "__main__":
    main()
