"""What a recipe may say. What `model`, `data`, `task` and the stages may hold, their plugins say."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from mcomp.config import Config, PluginConfig, shortens_to

VERSION = 1
"""The version of the language that this release reads."""

NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]


class RecipeRef(Config):
    """The model that another recipe ends with; it is run first if its result is not in the store.

    `recipe` is a path relative to the file that names it.
    """

    recipe: Annotated[str, Field(description="its file, from the folder of the file that names it")]
    stage: Annotated[
        Name | None, Field(description="take the model after this stage, not after the last")
    ] = None
    overrides: Annotated[tuple[str, ...], Field(description="as on the command line: key=value")] = ()


class Compute(Config):
    """Where and how the work is done. What is set here is part of every key."""

    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="where training runs")] = "auto"
    threads: Annotated[int | None, Field(ge=1, description="threads torch may use; default: torch's own")] = (
        None
    )
    precision: Annotated[
        Literal["32-true", "16-mixed", "bf16-mixed"], Field(description="numbers used in training")
    ] = "32-true"


class Measure(Config):
    """How exported files are timed: beside the baseline exported the same way, in turns."""

    threads: Annotated[int, Field(ge=1, description="threads of the runtime")] = 1
    batch_sizes: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(min_length=1, description="samples in a call; the metric is taken at the largest"),
    ] = (1, 16)
    rounds: Annotated[int, shortens_to(3, ge=3, description="turns per file and batch size")] = 30
    sizes: Annotated[
        dict[str, Annotated[int, Field(ge=1)]],
        Field(description="by name, how long axes of varying length are when timed: {sequence: 128}"),
    ] = {}


class Bound(Config):
    """A figure to meet: at least `min`, at most `max`, in the file of the export `of` (default: the last)."""

    min: Annotated[float | None, Field(description="lower bound")] = None
    max: Annotated[float | None, Field(description="upper bound")] = None
    of: Annotated[Name | None, Field(description="the stage that exports; default: the last")] = None

    @model_validator(mode="after")
    def says_something(self) -> Bound:
        """Refuse a bound that any figure would meet."""
        if self.min is None and self.max is None:
            raise ValueError("needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class TimedBound(Bound):
    """A bound on a time, which depends on the batch size."""

    batch_size: Annotated[int, Field(ge=1, description="one of measure.batch_sizes")] = 1


def one_or_many(value: Any) -> Any:
    """Accept a single mapping where a list of them is meant."""
    return [value] if isinstance(value, dict | Config) else value


def no_bare_number(value: Any) -> Any:
    """Refuse a number where a bound is meant, with what to write."""
    if isinstance(value, int | float | str):
        raise ValueError(f"must be a mapping, not {value}; write {{min: {value}}} or {{max: {value}}}")
    return value


# The last validator is called first.
Bounds = Annotated[tuple[Bound, ...], BeforeValidator(one_or_many), BeforeValidator(no_bare_number)]
TimedBounds = Annotated[tuple[TimedBound, ...], BeforeValidator(one_or_many), BeforeValidator(no_bare_number)]


class Require(Config):
    """What must hold in the runtime of the exported file. `accuracy`: the task's metric, on test."""

    accuracy: Annotated[Bounds, Field(description="the task's metric in the runtime, on the test split")] = ()
    accuracy_drop: Annotated[
        Bounds, Field(description="absolute, baseline minus result; may be negative")
    ] = ()
    worst_class_drop: Annotated[
        Bounds, Field(description="accuracy_drop of the class that lost most, in its share of right answers")
    ] = ()
    speedup: Annotated[TimedBounds, Field(description="baseline latency over latency")] = ()
    latency_ms: Annotated[TimedBounds, Field(description="median time of one call")] = ()
    size_ratio: Annotated[Bounds, Field(description="baseline bytes over bytes")] = ()
    size_bytes: Annotated[Bounds, Field(description="bytes of the exported file")] = ()


def may_be_swept(key: str) -> str:
    """Refuse a key that no override could set."""
    if not re.fullmatch(r"[A-Za-z]\w*(-\w+)*([./]\w+(-\w+)*)*", key):
        raise ValueError("is not the path of a key, as in stages.prune.target.macs")
    if re.split("[./]", key)[0] in ("hydra", "defaults", "sweep"):
        raise ValueError("cannot be swept")
    return key


SweptKey = Annotated[str, AfterValidator(may_be_swept)]


class RecipeSweep(Config):
    """What `run -m` tries: every combination of the values.

    It is in no key, and `run` without -m ignores it.
    """

    parameters: Annotated[
        dict[SweptKey, Annotated[tuple[Any, ...], Field(min_length=1)]],
        Field(min_length=1, description="the values to try, by the path of the key"),
    ]
    sampler: Annotated[Literal["grid"], Field(description="grid: every combination")] = "grid"
    launcher: Annotated[
        Literal["basic", "joblib"], Field(description="basic: one job after the other; joblib: side by side")
    ] = "basic"
    jobs: Annotated[
        int | None, Field(ge=1, description="jobs that run side by side; default: one for each core")
    ] = None

    @model_validator(mode="after")
    def launcher_has_jobs(self) -> RecipeSweep:
        """Refuse a number of jobs that the launcher would not start."""
        if self.launcher == "basic" and self.jobs not in (None, 1):
            raise ValueError("launcher basic runs one job after the other; write launcher: joblib")
        return self


class Recipe(Config):
    """One pipeline: a model, data, ordered stages, and what the result must reach."""

    version: Annotated[Literal[1], Field(description="version of the recipe language: 1")]
    name: Annotated[Name, Field(description="what runs and reports call it")]
    description: Annotated[str, Field(description="a sentence for people")] = ""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="where every random choice starts from")] = 0
    compute: Compute = Compute()
    model: Annotated[SerializeAsAny[PluginConfig], Field(description="what to compress")]
    data: Annotated[SerializeAsAny[PluginConfig], Field(description="what it learns from and is measured on")]
    task: Annotated[
        SerializeAsAny[PluginConfig], Field(description="loss and metric; default: {type: classification}")
    ]
    baseline: Annotated[RecipeRef | None, Field(description="what every ratio and drop compares with")] = None
    pipeline: Annotated[tuple[Name, ...], Field(description="the order; default: the order of `stages`")] = ()
    stages: Annotated[
        dict[Name, SerializeAsAny[PluginConfig]],
        Field(description="what can be done, by a name of yours"),
    ] = {}
    measure: Measure = Measure()
    require: Require = Require()
    sweep: Annotated[RecipeSweep | None, Field(description="what `run -m` tries")] = None

    def order(self) -> tuple[str, ...]:
        """Return the names of the stages to run, in order."""
        return self.pipeline or tuple(self.stages)
