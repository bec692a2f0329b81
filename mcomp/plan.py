"""From a recipe to the steps that compute it, with every key known before anything runs. Free of torch.

A step is one stage applied to one model. Its key chains the key of its input, those of its teachers, and
everything else that its bytes depend on, so that two recipes which share a beginning share its results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from mcomp import plugins
from mcomp.data.contract import DataConfig
from mcomp.errors import RecipeError
from mcomp.fingerprint import fingerprint
from mcomp.measure.runtime import not_installed
from mcomp.model.shards import weights_digest
from mcomp.model.spec import ModelConfig
from mcomp.recipe.build import LoadedRecipe, load_recipe, placed_at, refs, with_nested
from mcomp.recipe.nested import overridden_at
from mcomp.recipe.partial import require_stage
from mcomp.recipe.places import KeyPath
from mcomp.recipe.schema import Recipe, RecipeRef
from mcomp.stage import Form, StageConfig
from mcomp.step_key import made_by, step_key
from mcomp.task import TaskConfig

Load = Callable[[Path, Sequence[str]], LoadedRecipe]
Digest = Callable[[DataConfig], str]


def content_digest(data: DataConfig) -> str:
    """Return what the samples of a data set depend on beside its configuration."""
    with plugins.asked("data", data.type):
        return data.digest()


@dataclass(frozen=True)
class Origin:
    """A model that no step made: a fresh architecture, or one filled from a file.

    `key_json` is what its numbers depend on; `recipe` is the name of the one that describes it.
    """

    key_json: Mapping[str, Any]
    spec: ModelConfig
    seed: int
    checkpoint: Path | None
    recipe: str
    where: str


@dataclass(frozen=True)
class Step:
    """One stage applied to one model.

    `source` is the origin or the key of the step that made the input. `models` gives the same for each model
    that the stage's configuration refers to (its teachers). `path` is where the stage stands in its recipe.
    `target` is the model whose outputs are the targets, for a task that asks for one.
    """

    key: str
    key_json: Mapping[str, Any]
    stage: str
    config: StageConfig
    loaded: LoadedRecipe
    path: KeyPath
    source: str | Origin
    models: Mapping[RecipeRef, str | Origin]
    target: str | Origin | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe that the stage stands in."""
        return self.loaded.recipe

    @property
    def label(self) -> str:
        """What a person calls this step: the recipe and the name of the stage in it."""
        return f"{self.recipe.name}/{self.stage}"

    def needs(self) -> Iterator[str]:
        """Yield the keys of the steps whose models this one uses."""
        sources = (self.source, *self.models.values(), self.target)
        yield from (source for source in sources if isinstance(source, str))


@dataclass(frozen=True)
class Plan:
    """Everything one run does. `steps` stand in an order in which they can run, each key once.

    `pipeline` maps the names of the recipe's own stages to the keys of their steps; `baselines` maps the name
    of each export to the key of the step that exports the baseline in the same way.
    """

    loaded: LoadedRecipe
    steps: tuple[Step, ...]
    pipeline: Mapping[str, str]
    baselines: Mapping[str, str]

    @property
    def recipe(self) -> Recipe:
        """The recipe this is the plan of."""
        return self.loaded.recipe

    def step(self, key: str) -> Step:
        """Return the step with this key."""
        return next(step for step in self.steps if step.key == key)

    def onward(self, stage: str) -> list[Step]:
        """Return the steps from a stage of the pipeline on, and all that rest on them.

        Raises RecipeError if the pipeline has no such stage.
        """
        require_stage(self.loaded, stage, "--from")
        names = list(self.pipeline)
        keys = {self.pipeline[name] for name in names[names.index(stage) :]}
        for step in self.steps:
            if not keys.isdisjoint(step.needs()):
                keys.add(step.key)
        return [step for step in self.steps if step.key in keys]

    def exports(self) -> list[tuple[str, Step]]:
        """Return the recipe's own exports in order: the name of the stage and its step."""
        steps = [(name, self.step(key)) for name, key in self.pipeline.items()]
        return [(name, step) for name, step in steps if step.config.exports is not None]


@dataclass(frozen=True)
class Tail:
    """The model at one point of a pipeline: what made it, and the form it is in."""

    source: str | Origin
    form: Form

    @property
    def key_json(self) -> str | Mapping[str, Any]:
        """What a step that starts here has in its key."""
        return self.source.key_json if isinstance(self.source, Origin) else self.source

    @property
    def key(self) -> str:
        """What a step that learns from this model has in its key."""
        return fingerprint(self.source.key_json) if isinstance(self.source, Origin) else self.source


@dataclass(frozen=True)
class Chain:
    """A pipeline: where it starts, and by the name of each stage the key of its step and the model after
    it. `target`: the model whose outputs are the targets, if there is one.
    """

    start: Tail
    target: Tail | None
    keys: Mapping[str, str]
    tails: Mapping[str, Tail]


@dataclass
class Planner:
    """Collects the steps of a recipe and of every recipe it refers to; each of those is resolved once."""

    load: Load = load_recipe
    digest: Digest = content_digest
    steps: dict[str, Step] = field(default_factory=dict)
    nested: dict[tuple[Path, tuple[str, ...]], tuple[LoadedRecipe, Chain]] = field(default_factory=dict)
    open: list[Path] = field(default_factory=list)

    def chain(self, loaded: LoadedRecipe) -> Chain:
        """Add the steps of a recipe's pipeline.

        Raises RecipeError if a stage cannot follow the one before it.
        """
        self.open.append(loaded.path)
        start = tail = self.start(loaded)
        target = self.target(loaded, start)
        keys: dict[str, str] = {}
        tails: dict[str, Tail] = {}
        for name in loaded.recipe.order():
            keys[name], tail = self.add(loaded, name, tail, target)
            tails[name] = tail
        self.open.pop()
        return Chain(start, target, keys, tails)

    def start(self, loaded: LoadedRecipe) -> Tail:
        """Return the model a pipeline starts with."""
        recipe, path = loaded.recipe, ("model", "checkpoint")
        spec = cast(ModelConfig, recipe.model)
        if isinstance(spec.checkpoint, RecipeRef):
            tail = self.resolve(spec.checkpoint, loaded, path)
            require_same_architecture(loaded, spec, self.origin(tail).spec)
            return tail
        file = loaded.relative(spec.checkpoint) if spec.checkpoint else None
        made_of = {
            "model": spec.spec(),
            **made_by(type(spec)),
            "weights": weights_digest(file) if file else recipe.seed,
        }
        origin = Origin(made_of, spec, recipe.seed, file, recipe.name, loaded.where(path))
        return Tail(origin, Form.FLOAT if file else Form.UNTRAINED)

    def target(self, loaded: LoadedRecipe, start: Tail) -> Tail | None:
        """Return the model whose outputs are the targets, None if the data has them.

        Raises RecipeError if there is no trained model before the first stage.
        """
        recipe = loaded.recipe
        if cast(TaskConfig, recipe.task).target == "data":
            return None
        if recipe.baseline is not None:
            return self.resolve(recipe.baseline, loaded, ("baseline",))
        if start.form is Form.UNTRAINED:
            what = f"{recipe.task.type} compares with a trained model, and the pipeline starts with none"
            raise problem(loaded, ("task",), what, "set model.checkpoint, or baseline: {recipe: ...}")
        return start

    def origin(self, tail: Tail) -> Origin:
        """Return the model that the first step before `tail` started from."""
        source = tail.source
        while isinstance(source, str):
            source = self.steps[source].source
        return source

    def resolve(self, ref: RecipeRef, loaded: LoadedRecipe, path: KeyPath) -> Tail:
        """Return the model that a reference stands for, after adding the steps of its recipe."""
        file = loaded.relative(ref.recipe)
        if file in self.open:
            circle = " -> ".join(each.name for each in [*self.open[self.open.index(file) :], file])
            raise problem(loaded, (*path, "recipe"), f"recipes refer to each other in a circle: {circle}")
        if (file, ref.overrides) not in self.nested:
            with overridden_at(loaded.composed, path):
                other = self.load(file, ref.overrides)
                self.nested[file, ref.overrides] = (other, self.chain(other))
        other, chain = self.nested[file, ref.overrides]
        models = [name for name in chain.tails if stage_of(other.recipe, name).exports is None]
        if not models and ref.stage is None:
            return chain.start  # a recipe that only exports stands for the model that it exports
        name = ref.stage or models[-1]
        if name not in chain.tails:
            what = f"{file.name} has no stage '{name}' in its pipeline"
            raise problem(loaded, (*path, "stage"), what, f"choose one of: {', '.join(models)}")
        return chain.tails[name]

    def add(
        self, loaded: LoadedRecipe, name: str, tail: Tail, target: Tail | None, shown_as: str | None = None
    ) -> tuple[str, Tail]:
        """Add the step of one stage behind `tail`; return its key and the model after it."""
        recipe, config = loaded.recipe, stage_of(loaded.recipe, name)
        form = next_form(loaded, name, tail.form)
        models = {ref: self.resolve(ref, loaded, ("stages", name, *path)) for path, ref in refs(config)}
        with placed_at(loaded.composed, "data"):
            content = self.digest(cast(DataConfig, recipe.data))
        key_json = step_key(
            recipe, config, tail.key_json, {ref: each.key for ref, each in models.items()}, content
        )
        if target is not None:
            key_json["target"] = target.key
        if builds := config.builds():
            kinds = {kind: model_type(loaded, name, path, kind) for path, kind in builds.items()}
            key_json["builds"] = {kind: made_by(each) for kind, each in kinds.items()}
        key = fingerprint(key_json)
        self.steps.setdefault(
            key,
            Step(
                key=key,
                key_json=key_json,
                stage=shown_as or name,
                config=config,
                loaded=loaded,
                path=("stages", name),
                source=tail.source,
                models={ref: each.source for ref, each in models.items()},
                target=target.source if target else None,
            ),
        )
        # An export leaves the model as it was: what follows it continues from its input.
        return key, (tail if config.exports is not None else Tail(key, form))


def make_plan(loaded: LoadedRecipe, load: Load = load_recipe, digest: Digest = content_digest) -> Plan:
    """Return the plan of a recipe; `load` reads those that it refers to, `digest` the data.

    Raises RecipeError for parts that do not fit each other.
    """
    planner = Planner(load, digest)
    try:
        chain = planner.chain(loaded)
    except RecipeError as error:
        raise with_nested(error, loaded.composed) from error
    exports = [name for name in chain.keys if stage_of(loaded.recipe, name).exports is not None]
    baselines = {}
    if exports:
        reference = baseline(planner, loaded, chain)
        baselines = {
            name: planner.add(loaded, name, reference, chain.target, f"{name} of the baseline")[0]
            for name in exports
        }
    wanted = [*chain.keys.values(), *baselines.values()]
    return Plan(loaded, needed(planner.steps, wanted), chain.keys, baselines)


def baseline(planner: Planner, loaded: LoadedRecipe, chain: Chain) -> Tail:
    """Return what the results are compared with: what the recipe says, or the first trained model of the
    pipeline.
    """
    said = loaded.recipe.baseline
    if said is not None:
        if loaded.relative(said.recipe) == loaded.path and said.stage is None and not said.overrides:
            what, next_step = (
                "is this recipe: it would be compared with itself",
                "name another, or a stage of it",
            )
            raise problem(loaded, ("baseline", "recipe"), what, next_step)
        return planner.resolve(said, loaded, ("baseline",))
    trained = (tail for tail in (chain.start, *chain.tails.values()) if tail.form is not Form.UNTRAINED)
    return next(trained)


def require_same_architecture(loaded: LoadedRecipe, said: ModelConfig, built: ModelConfig) -> None:
    """Raise RecipeError for each field of `model` that contradicts the model its checkpoint brings."""
    here, there = said.spec(), built.spec()
    names = ["type"] if said.type != built.type else said.model_fields_set & here.keys()
    problems = [
        loaded.composed.places.problem(
            ("model", name),
            f"is {json.dumps(here[name])}, but the recipe of the checkpoint has {json.dumps(there[name])}",
            "write the same, or choose another checkpoint",
        )
        for name in here
        if name in names and here[name] != there[name]
    ]
    if problems:
        raise RecipeError(problems)


def next_form(loaded: LoadedRecipe, name: str, form: Form) -> Form:
    """Return the form after a stage.

    Raises RecipeError, placed at the stage, if it does not take what comes before it, or if a library that
    it needs is not installed.
    """
    config = stage_of(loaded.recipe, name)
    missing = not_installed(config.libraries)
    if missing:
        what, _, next_step = missing.partition("; ")
        raise problem(loaded, ("stages", name, "type"), what, next_step)
    if form in config.forms:
        return config.forms[form]
    if form is Form.UNTRAINED:
        what = f"{config.type} needs trained weights, and nothing before it trained or loaded any"
        next_step = "set model.checkpoint, or put a train or distill stage before it"
    else:
        accepted = " or ".join(config.forms)
        what = f"{config.type} takes a {accepted} model, and the stage before it leaves a {form} one"
        next_step = "change the order in pipeline, or take one of the two out of it"
    raise problem(loaded, place_in_order(loaded, name), what, next_step)


def place_in_order(loaded: LoadedRecipe, name: str) -> KeyPath:
    """Return the place to blame for where a stage stands: its own, or an override of the pipeline."""
    places, path = loaded.composed.places, ("stages", name, "type")
    own = places.override_of(path) or not places.override_of(("pipeline",))
    return path if own else ("pipeline", loaded.recipe.order().index(name))


def needed(steps: Mapping[str, Step], wanted: Iterable[str]) -> tuple[Step, ...]:
    """Return the wanted steps and all they rest on, in the order of `steps` (a step stands behind what it
    needs).
    """
    keys: set[str] = set()
    todo = list(wanted)
    while todo:
        key = todo.pop()
        # The key of an origin is no step.
        if key in steps and key not in keys:
            keys.add(key)
            todo += steps[key].needs()
    return tuple(step for key, step in steps.items() if key in keys)


def model_type(loaded: LoadedRecipe, stage: str, path: str, name: str) -> type[ModelConfig]:
    """Return the class of a model that a stage names. Raises RecipeError, placed there, if there is none."""
    try:
        return cast(type[ModelConfig], plugins.load("models", name))
    except plugins.UnknownPlugin as unknown:
        place = ("stages", stage, *(int(part) if part.isdecimal() else part for part in path.split(".")))
        raise problem(loaded, place, unknown.what, unknown.next_step) from unknown


def stage_of(recipe: Recipe, name: str) -> StageConfig:
    """Return the configuration of a stage."""
    return cast(StageConfig, recipe.stages[name])


def problem(loaded: LoadedRecipe, path: KeyPath, what: str, next_step: str = "") -> RecipeError:
    """Return the error for one key of a recipe."""
    return RecipeError(loaded.composed.places.problem(path, what, next_step))
