"""The contract between the scheduler and a stage. Free of torch: `plan`, `stages` and `schema` read it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mcomp.config import PluginConfig
from mcomp.errors import StoreError
from mcomp.fingerprint import canonical
from mcomp.signals import raise_if_interrupted

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from mcomp.data.contract import Data
    from mcomp.model.example import Example
    from mcomp.model.model import Model
    from mcomp.progress import Process
    from mcomp.recipe.schema import Compute, RecipeRef
    from mcomp.sensitivity.trials import Trials
    from mcomp.task import TaskConfig


class Form(StrEnum):
    """What state a model is in between two stages."""

    UNTRAINED = "untrained"
    FLOAT = "float"
    QUANTIZED = "quantized"
    STORED = "stored"  # weights in few bits, which do not train any more: only exports follow


class StageConfig(PluginConfig):
    """Base of the stages: the fields of one entry under `stages:`, and the work that they describe.

    A stage's module imports nothing heavy at the top; `run` imports what it needs. `forms` maps each form the
    stage accepts to the form of its result; a form that is not there is refused before anything runs.
    """

    forms: ClassVar[Mapping[Form, Form]]
    exports: ClassVar[str | None] = None
    """The runtime that serves the file this stage writes, if it writes one (`mcomp.measure.runtime`)."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions beside mcomp's own requirements that make the result; each is an extra of its name."""
    varies: ClassVar[str | None] = None
    """What `mcomp sensitivity` changes of one part after the other (`bits`, `ratio`), if `trials` does so."""

    def timed(self) -> bool:
        """Whether the result depends on how fast this machine is: then the machine is in the step's key."""
        return False

    def builds(self) -> Mapping[str, str]:
        """Return the types of other models that this stage builds, by their path in its fields: what they are
        made by is in its key.
        """
        return {}

    def calibration_samples(self) -> int:
        """Return how many samples the calibration split must hold; 0: what there is will do."""
        return 0

    def run(self, model: Model, context: Context) -> StageResult:
        """Do the work on a copy of `model`. Raises StageError."""
        raise NotImplementedError

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        """Return `model` with one part after the other changed as this stage would, by each of `levels`; none
        leaves the choice to the stage. Raises StageError, also for levels that it does not know.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class StageResult:
    """What a stage gives back.

    `model`: the new model, or None if the stage leaves it as it was (an export). `files`: what it wrote into
    `context.folder`, by the name under which it is kept. `facts`: plain JSON for the report. A stage that
    changed nothing fails, unless it says why in `unchanged`.
    """

    model: Model | None
    files: Mapping[str, Path] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    unchanged: str = ""


class Progress(Protocol):
    """A running bar."""

    def advance(self, steps: int = 1, **figures: float | str) -> None: ...


class Reporter(Protocol):
    """Where a stage says what it is doing."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]: ...

    def log(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...


@dataclass(frozen=True)
class Checkpoint:
    """What a step has done so far: tensors by name, and plain JSON."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def as_read(self) -> Checkpoint:
        """Return it as a later try will find it: names in order, lists for tuples, tensors contiguous."""
        tensors = {name: self.tensors[name].detach().cpu().contiguous() for name in sorted(self.tensors)}
        return Checkpoint(tensors, json.loads(canonical(dict(self.numbers))))


Unit = Callable[[str, Callable[[], Checkpoint]], Checkpoint]
"""`Context.unit`: keeps what is finished if the step is interrupted."""


def at_once(label: str, compute: Callable[[], Checkpoint]) -> Checkpoint:
    """Return what is computed; a unit of which nothing is kept."""
    return compute()


class Checkpoints(Protocol):
    """Where a step that is interrupted finds again what it had done, by labels of its own choice."""

    def load(self, label: str) -> Checkpoint | None: ...

    def save(self, label: str, checkpoint: Checkpoint) -> None: ...

    def forget(self, label: str) -> None: ...


def require_label(label: str) -> None:
    """Raise ValueError for the label of a checkpoint that could not be the name of a folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", label):
        raise ValueError(f"{label!r} cannot be the label of a checkpoint")


def steps_of(label: str) -> str:
    """Return under which label a unit that is not finished keeps how far it is."""
    return f"{label}-steps"


class NoCheckpoints:
    """Keeps nothing: a stage that runs outside of a store."""

    def load(self, label: str) -> Checkpoint | None:
        """Return None."""
        require_label(label)
        return None

    def save(self, label: str, checkpoint: Checkpoint) -> None:
        """Nothing."""

    def forget(self, label: str) -> None:
        """Nothing."""


class Shared(Protocol):
    """Where what follows from a model and the data is kept for other stages and jobs that need the same."""

    def get(
        self, what: Mapping[str, Any], of: RecipeRef, compute: Callable[[], Checkpoint]
    ) -> Checkpoint: ...


class NotShared:
    """Computes each time: a stage that runs outside of a store."""

    def get(self, what: Mapping[str, Any], of: RecipeRef, compute: Callable[[], Checkpoint]) -> Checkpoint:
        """Return what `compute` gives."""
        return compute()


@dataclass(frozen=True)
class Context:
    """What a stage may use beside its own fields and its input; there is nothing global.

    `folder` is scratch space on the store's disk, gone when the step ends. `example` holds the inputs of two
    samples of the calibration split, by name. `shared.get` returns what `compute` gives for the model `of`
    and the data, or gave in this environment before: `what` is plain JSON, and all else that it depends on.
    `key` is that of the result, and `made_of` what it depends on. In a `rehearsal` (a run on shortened data)
    the weights have learnt next to nothing: a bound on how good they are says nothing and is not applied.
    """

    step: str
    seed: int
    data: Data
    batch_size: int
    task: TaskConfig
    compute: Compute
    folder: Path
    example: Example
    reporter: Reporter
    models: Mapping[RecipeRef, Model]
    rehearsal: bool = False
    key: str = ""
    made_of: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: Checkpoints = field(default_factory=NoCheckpoints)
    shared: Shared = field(default_factory=NotShared)

    def unit(self, label: str, compute: Callable[[], Checkpoint]) -> Checkpoint:
        """Return what `compute` gives, or gave in an earlier try of this step that was interrupted after it.

        For work beside training (`mcomp.training.loop.fit` keeps its own). `label` is used once in a step.
        Both are the same to the order of names: else what is made of them could differ.
        """
        raise_if_interrupted()
        done = self.checkpoints.load(label)
        if done is None:
            done = compute()
            self.checkpoints.save(label, done)
            with suppress(StoreError):  # goes with the step
                self.checkpoints.forget(steps_of(label))
        return done.as_read()

    def steps(self, label: str, num_steps: int, process: Process) -> None:
        """Do all steps of a process within the unit `label`, or those that an earlier try had not done."""
        from mcomp.progress import Progress

        Progress(process, self.checkpoints, steps_of(label)).advance_to(num_steps)

    def figure(self, label: str, measure: Callable[[], float]) -> float:
        """Return the number that `measure` gives, as a `unit`; it need not be finite."""
        import torch

        def compute() -> Checkpoint:
            return Checkpoint({"figure": torch.tensor(measure(), dtype=torch.float64)})

        return float(self.unit(label, compute).tensors["figure"])

    def generator(self, purpose: str) -> Generator:
        """Return a random generator that depends on the recipe's seed and on `purpose` alone."""
        import torch

        from mcomp.fingerprint import sub_seed

        return torch.Generator().manual_seed(sub_seed(self.seed, purpose))
