"""Do one step: load its input, run the stage, measure the result, publish it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from mcomp.data.contract import Data, DataConfig, Split
from mcomp.data.following import FollowingData
from mcomp.data.shortened import load_data, part_of
from mcomp.errors import CheckpointError, CorruptArtifact, McompError, StageError, StoreFull, words
from mcomp.fingerprint import fingerprint, sub_seed
from mcomp.measure.accuracy import evaluate
from mcomp.measure.macs import count_macs
from mcomp.measure.memory import PeakMemory, free_bytes
from mcomp.measure.runtime import Exported, find_runtime
from mcomp.measure.served import at_sizes, serve, versus
from mcomp.measure.size import num_bytes, parameter_count
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.plan import Origin, Step
from mcomp.recipe.build import placed_at
from mcomp.recipe.schema import Recipe, RecipeRef
from mcomp.stage import Context, Reporter, StageResult
from mcomp.store.artifact import Artifact
from mcomp.store.checkpoints import StepCheckpoints
from mcomp.store.disk import FULL
from mcomp.store.layout import FILES, MODEL, REPORT
from mcomp.store.ledger import Figures, Served
from mcomp.store.preflight import require_room
from mcomp.store.shared import SharedResults
from mcomp.store.store import Store
from mcomp.task import TaskConfig
from mcomp.training.device import environment


@dataclass
class Executor:
    """Does steps, one after the other. Data that was loaded for one is kept for the next."""

    store: Store
    reporter: Reporter
    data: dict[str, Data] = field(default_factory=dict)

    def execute(self, step: Step, about: dict[str, Any]) -> Artifact:
        """Compute one step and publish it; the caller holds its lease. Raises StageError."""
        started = time.perf_counter()
        with self.store.workspace(step.key) as work, PeakMemory() as memory, blamed_on(step):
            scratch, content = work / "scratch", work / "content"
            scratch.mkdir()
            content.mkdir()
            context = self.context(step, scratch)
            source = self.model(step.source)
            if isinstance(step.source, Origin):  # how large it is, is known only now
                require_room(self.store, step.label, num_bytes(source.module), step.config)
            result = step.config.run(source, context)
            require_effect(result, source)
            write_content(content, result, measure(result, source, context), context.data.facts, scratch)
            artifact = self.store.publish(step.key, step.key_json, content, about)
        cost = {"seconds": time.perf_counter() - started, "peak_memory_bytes": memory.peak_bytes}
        self.store.put_measurement(step.key, "cost", cost)
        return artifact

    def context(self, step: Step, scratch: Path) -> Context:
        """Return what the stage may use."""
        data_config = cast(DataConfig, step.recipe.data)
        return Context(
            step=step.label,
            seed=sub_seed(step.recipe.seed, step.config.type),
            data=self.data_of(step),
            batch_size=data_config.batch_size,
            task=cast(TaskConfig, step.recipe.task),
            compute=step.recipe.compute,
            folder=scratch,
            example=self.example(step.recipe),
            reporter=self.reporter,
            models={ref: self.referred(ref, source) for ref, source in step.models.items()},
            rehearsal=data_config.shortened is not None,
            key=step.key,
            made_of=step.key_json,
            checkpoints=StepCheckpoints(
                self.store, step.key, partial(environment, step.recipe.compute), self.reporter.warn
            ),
            shared=self.shared(step),
        )

    def shared(self, step: Step) -> SharedResults:
        """Return what other steps may have computed of this one's models and data."""
        keys = {ref: model_key(source) for ref, source in step.models.items()}
        depends_on = {
            name: step.key_json[name] for name in ("format", "data", "compute", "makers", "sources")
        }
        here = {**depends_on, "environment": environment(step.recipe.compute)}
        return SharedResults(self.store, step.label, keys, here, self.reporter)

    def example(self, recipe: Recipe) -> Example:
        """Return two samples of the calibration split."""
        inputs = self.loaded_data(recipe).split("calibration").batch(torch.arange(2)).inputs
        return Example(inputs, cast(DataConfig, recipe.data).facts().varying)

    def data_of(self, step: Step) -> Data:
        """Return what a step works on: the splits, with the targets that its task asks for."""
        with placed_at(step.loaded.composed, "data"):
            data = self.loaded_data(step.recipe)
        if step.target is None:
            return data
        key = fingerprint([step.recipe.data.model_dump(mode="json"), step.key_json["target"]])
        if key not in self.data:
            module = self.model(step.target).inference_module(self.example(step.recipe))
            self.data[key] = FollowingData(data, module)
        return self.data[key]

    def loaded_data(self, recipe: Recipe) -> Data:
        """Return the splits, loaded once for all steps that use them."""
        key = fingerprint(recipe.data.model_dump(mode="json"))
        if key not in self.data:
            self.data[key] = load_data(cast(DataConfig, recipe.data))
        return self.data[key]

    def referred(self, ref: RecipeRef, source: str | Origin) -> Model:
        """Return the model of a reference, a teacher mostly. Raises StageError if there is no room for it."""
        artifact = None if isinstance(source, Origin) else self.store.find(source)
        if artifact is not None:
            size, room = artifact.size_bytes(MODEL), free_bytes()
            if room is not None and size > room:
                what = (
                    f"the model of {ref.recipe} takes {size / 1e9:.2f} GB of memory, and {room / 1e9:.2f} GB"
                )
                raise StageError(f"{what} are free: take a smaller one, or a larger machine", about=ref)
        return self.model(source)

    def model(self, source: str | Origin) -> Model:
        """Return a model: that of a step from the store, also if it was just made, because what is kept goes
        on.
        """
        if isinstance(source, Origin):
            return original(source)
        artifact = self.store.find(source)
        if artifact is None:
            what = f"the result {source[:12]} that this step rests on is gone; it is made again"
            raise CorruptArtifact(what)
        return load_model(artifact.verified(MODEL))

    def serve(
        self, step: Step, scratch: Path, exported: Exported, baseline: Exported
    ) -> tuple[Served, Served]:
        """Measure an exported file and the baseline's in their runtime, in turns, on the test split."""
        task, settings = cast(TaskConfig, step.recipe.task), step.recipe.measure
        runtime, test = find_runtime(str(step.config.exports)), self.data_of(step).split("test")
        pair = [serve(each, runtime, test, task, settings, scratch) for each in (exported, baseline)]
        largest = torch.arange(min(max(settings.batch_sizes), len(test)))
        inputs = {name: value.numpy() for name, value in test.batch(largest).inputs.items()}
        inputs = at_sizes(inputs, self.example(step.recipe).varying, settings.sizes)
        files = exported.file, baseline.file
        return versus(pair[0], pair[1], files, runtime, inputs, settings, task.direction)


def model_key(source: str | Origin) -> str:
    """Return what tells a model from others."""
    return fingerprint(source.key_json) if isinstance(source, Origin) else source


def original(origin: Origin) -> Model:
    """Build the architecture, with fresh weights or those of the file.

    Raises CheckpointError at its place in the recipe.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sub_seed(origin.seed, "initial weights"))
        module = origin.spec.build()
    if origin.checkpoint is not None:
        try:
            origin.spec.fill(module, origin.checkpoint)
        except CheckpointError as error:
            placed = [replace(each, where=origin.where, path="model.checkpoint") for each in error.problems]
            raise CheckpointError(placed) from error
    return Model(module, origin.spec)


@contextmanager
def blamed_on(step: Step) -> Iterator[None]:
    """Raise a StageError that names the step, also for what a stage, a model or data did not foresee."""
    try:
        yield
    except StageError as error:
        raise StageError(error.what, module=error.module, step=step.label, about=error.about) from error
    except McompError:
        raise
    except (Exception, SystemExit) as error:  # a stage that exits has not done its work
        if isinstance(error, OSError) and error.errno in FULL:
            what = f"the disk is full ({error}); make room and run again: what was published before is intact"
            raise StoreFull(f"{step.label}: {what}") from error
        raise StageError(words(error), step=step.label) from error


def require_effect(result: StageResult, source: Model) -> None:
    """Raise StageError if a stage gives back what it was given and does not say why."""
    if result.unchanged or result.files:
        return
    if result.model is None or same_model(result.model, source):
        raise StageError("the stage changed nothing")


def same_model(left: Model, right: Model) -> bool:
    """Return whether two models have the same structure and the same numbers."""
    if left.edits != right.edits:
        return False
    here, there = ({**model.module.state_dict(), **model.state} for model in (left, right))
    return here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)


def measure(result: StageResult, source: Model, context: Context) -> Figures:
    """Return what is known of a result without a runtime or a clock, in batches as the data gives them.

    Only the final measurement touches test.
    """
    if result.model is None:
        return Figures(size_bytes=sum(path.stat().st_size for path in result.files.values()))
    module = result.model.inference_module(context.example)
    splits = context.data.split("validation"), part_of_train(context.data)
    size = context.batch_size  # ranges that are found at run time depend on it
    validation, train = (evaluate(module, split, context.task, batch_size=size) for split in splits)
    return Figures(
        validation=validation.metric,
        train=train.metric,
        loss=validation.loss,
        parameters=parameter_count(result.model.module),
        macs=count_macs(result.model.module, context.example),
    )


def part_of_train(data: Data) -> Split:
    """Return as many training samples as validation has: to see a gap, nobody needs more."""
    size = len(data.split("validation"))
    return data.part("train", size) if isinstance(data, FollowingData) else part_of(data.split("train"), size)


def is_own_file(name: str, path: Path, scratch: Path) -> bool:
    """Return whether a stage wrote a file into its folder and gives it a name that stays in the artifact."""
    parts = Path(name).parts
    stays = bool(parts) and not Path(name).is_absolute() and ".." not in parts
    is_plain = path.is_file() and not path.is_symlink()
    return stays and is_plain and path.resolve().is_relative_to(scratch.resolve())


def write_content(
    content: Path, result: StageResult, figures: Figures, data: Mapping[str, Any], scratch: Path
) -> None:
    """Lay out the artifact of a step in the folder `content`.

    `data` is what its data says of itself; the stage's files are moved from `scratch`. Raises StageError for
    those that do not lie there.
    """
    if result.model is not None:
        save_model(result.model, content / MODEL)
        weights = sum(path.stat().st_size for path in (content / MODEL).iterdir())
        figures = figures.model_copy(update={"size_bytes": weights})
    for name, path in result.files.items():
        target = content / FILES / name
        if not is_own_file(name, path, scratch):
            raise StageError(f"{name!r} ({path}) is no plain file in the folder that the stage was given")
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    facts = dict(result.facts)
    if result.unchanged:
        facts["unchanged"] = result.unchanged
    if data:
        facts["data"] = dict(data)
    report = {"figures": figures.model_dump(mode="json"), "facts": facts}
    (content / REPORT).write_text(
        json.dumps(report, indent=1, sort_keys=True, allow_nan=False), encoding="utf-8"
    )
