"""What can be said of a recipe once its data is loaded and its models are built, before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

import torch
from torch import Tensor, nn

from mcomp.check.findings import BoundModel, Match
from mcomp.check.rehearsal import origin, raised_in, said
from mcomp.check.samples import whole_data
from mcomp.data.contract import Data, SplitName
from mcomp.data.shortened import SMALLEST, ShortenedData
from mcomp.errors import Problem, RecipeError, StageError
from mcomp.executor import Executor, blamed_on, original
from mcomp.fingerprint import fingerprint
from mcomp.measure.size import parameter_count
from mcomp.model.select import select_modules
from mcomp.plan import Origin, Plan, Step
from mcomp.recipe.places import dotted, in_order
from mcomp.recipe.walk import texts
from mcomp.task import one_tensor


@dataclass
class Binding:
    """Collects what fits and what does not. What failed is told once, and not blamed on what needs it.

    `models` and `modules` are by `identity`; `calibration` has the sizes of whole splits by `whole_data`.
    """

    plan: Plan
    executor: Executor
    problems: list[Problem] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    models: dict[str, BoundModel] = field(default_factory=dict)
    modules: dict[str, nn.Module] = field(default_factory=dict)
    matches: list[Match] = field(default_factory=list)
    calibration: dict[str, int] = field(default_factory=dict)

    def bind(self) -> None:
        """Load the data, build the models, give them two samples, and match the patterns.

        Raises RecipeError with everything that does not fit.
        """
        for step in self.plan.steps:
            data = self.data(step)
            if isinstance(step.source, Origin) and data is not None:
                self.model(step.source, step, data)
            self.patterns(step)
        if self.problems:
            raise RecipeError(in_order(self.problems))

    def fail(self, name: str, *problems: Problem) -> None:
        """Note what is wrong with one part."""
        self.failed.add(name)
        self.problems += problems

    def data(self, step: Step) -> Data | None:
        """Return the data of a step's recipe, or None if it cannot be used."""
        name = fingerprint(step.recipe.data.model_dump(mode="json"))
        if name in self.failed:
            return None
        places = step.loaded.composed.places
        try:
            with blamed_on(step):
                data = self.executor.loaded_data(step.recipe)
                sizes = {split: len(data.split(split)) for split in get_args(SplitName)}
                whole = data.data if isinstance(data, ShortenedData) else data
                self.calibration[whole_data(step.recipe.data)] = len(whole.split("calibration"))
        except RecipeError as error:
            self.fail(
                name, *(placed(each, places.problem(("data",), "", at_key=True)) for each in error.problems)
            )
            return None
        except StageError as error:
            what = f"cannot be loaded: {said(error)}"
            self.fail(name, places.problem(("data",), what, raised_in(error), at_key=True))
            return None
        small = {split: size for split, size in sizes.items() if size < SMALLEST}
        for split, size in small.items():
            what = f"the split {split} holds {size} samples; {SMALLEST} are the fewest"
            self.fail(name, places.problem(("data",), what, at_key=True))
        return None if small else data

    def model(self, source: Origin, step: Step, data: Data) -> None:
        """Build a model, load its checkpoint, and give it two samples of the data."""
        name = identity(source)
        if name in self.modules or name in self.failed:
            return
        example = data.split("calibration").batch(torch.arange(SMALLEST)).inputs
        built = False
        try:
            with blamed_on(step):
                module = original(source).module
                built = True
                output = output_shape(module, example)
        except RecipeError as error:
            self.fail(name, *(placed(each, Problem(source.where, "model", "")) for each in error.problems))
        except StageError as error:
            done = "take the samples of the data" if built else "be built"
            what = f"{source.spec.type} cannot {done}: {said(error)}"
            given = ", ".join(f"{key} {shape(value)}" for key, value in example.items())
            next_step = f"the data gives {given}" if built else raised_in(error)
            self.fail(name, Problem(source.where, "model", what, next_step))
        else:
            self.modules[name] = module
            self.models[name] = bound_model(source, module, example, output)

    def patterns(self, step: Step) -> None:
        """Match the patterns of a stage against the architecture that its model started from."""
        module = self.modules.get(identity(origin(self.plan, step.source)))
        if module is None:
            return
        for path, pattern in texts(step.config, "patterns"):
            place = (*step.path, *path)
            try:
                modules = select_modules(module, [pattern])
            except StageError as error:
                self.problems.append(step.loaded.composed.places.problem(place, error.what))
            else:
                self.matches.append(Match(dotted(place), pattern, modules))


def identity(source: Origin) -> str:
    """Return what tells a model from the others, also from an equal one of another recipe."""
    return fingerprint([source.recipe, source.key_json])


def placed(problem: Problem, at: Problem) -> Problem:
    """Return a problem that has no place as one of the place of another."""
    return problem if problem.where else replace(problem, where=at.where, path=at.path)


def bound_model(
    source: Origin, module: nn.Module, example: Mapping[str, Tensor], output: tuple[int, ...]
) -> BoundModel:
    """Return what is known of a model that takes the samples of the data."""
    tensors = [value for value in module.state_dict().values() if isinstance(value, Tensor)]
    return BoundModel(
        recipe=source.recipe,
        type=source.spec.type,
        parameters=parameter_count(module),
        size_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        inputs={key: shape(value) for key, value in example.items()},
        output=output,
        checkpoint=source.checkpoint.name if source.checkpoint else "",
    )


def output_shape(module: nn.Module, example: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return the shape of what a model says about one sample."""
    with torch.no_grad():
        return shape(one_tensor(module.eval()(**example)))


def shape(batch: Tensor) -> tuple[int, ...]:
    """Return the shape of one sample of a batch."""
    return tuple(batch.shape[1:])
