from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mcomp.data.contract import SplitName
from mcomp.data.splits import Splits, TensorSplit
from mcomp.errors import CheckpointError, CorruptArtifact, Problem, RecipeError, StageError
from mcomp.executor import Executor, original, part_of_train, require_effect, same_model
from mcomp.model.checkpoint import load_model
from mcomp.model.edits import Masks
from mcomp.model.model import Model
from mcomp.plan import Origin, Plan, make_plan
from mcomp.recipe.build import load_recipe
from mcomp.stage import Context, StageResult
from mcomp.store.artifact import Artifact
from mcomp.store.store import Store
from tests.mcomp.toys import NUM_SAMPLES, RECIPE, PointNet, ToyFit, ToyNet, ToyPoints
from tests.mcomp.voices import Quiet

MakePlan = Callable[..., Plan]


@pytest.fixture
def plan(tmp_path: Path) -> MakePlan:
    def plan(old: str = "", new: str = "", name: str = "toy.yaml") -> Plan:
        assert old in RECIPE
        (tmp_path / name).write_text(RECIPE.replace(old, new) if old else RECIPE)
        return make_plan(load_recipe(tmp_path / name))

    return plan


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def run(plan: Plan, store: Store, steps: int = 1) -> Artifact:
    executor = Executor(store, Quiet())
    return [executor.execute(step, {}) for step in plan.steps[:steps]][-1]


def report(artifact: Artifact) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(artifact.file("report.json").read_bytes())
    return loaded


def seen_by(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch, steps: int = 1
) -> list[tuple[Model, Context]]:
    """Return what each step was given, after running it."""
    given: list[tuple[Model, Context]] = []
    known = ToyFit.run

    def watched(self: ToyFit, model: Model, context: Context) -> StageResult:
        given.append((model, context))
        return known(self, model, context)

    monkeypatch.setattr(ToyFit, "run", watched)
    run(plan, store, steps)
    return given


# What a stage is given


def test_a_stage_is_given_what_its_recipe_says(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan("{type: toy.points}", "{type: toy.points, batch_size: 5}")
    ((model, context),) = seen_by(made, store, monkeypatch)
    assert isinstance(model.spec, ToyNet)
    assert context.step == "toy/fit"
    assert context.batch_size == 5
    assert context.task == made.recipe.task
    assert context.example["point"].shape == (2, 2)
    calibration = context.data.split("calibration").batch(torch.arange(2)).inputs["point"]
    assert torch.equal(context.example["point"], calibration)
    assert context.models == {}
    assert not context.folder.exists()


def test_a_step_starts_from_what_was_kept_of_the_one_before(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan()
    _, (model, _) = seen_by(made, store, monkeypatch, steps=2)
    kept = store.find(made.steps[0].key)
    assert kept is not None
    before = load_model(kept.verified("model")).module.state_dict()
    assert all(torch.equal(model.module.state_dict()[name], before[name]) for name in before)


def test_teachers_are_given_by_their_reference(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan("by: 1.0", "by: 9.0", name="teacher.yaml")
    taught = plan("by: 0.5}", "by: 0.5, teachers: [{recipe: teacher.yaml, stage: fit}]}")
    assert [step.label for step in taught.steps[:3]] == ["toy/fit", "toy/fit", "toy/more"]
    *_, (_, context) = seen_by(taught, store, monkeypatch, steps=3)
    ((ref, teacher),) = context.models.items()
    assert (ref.recipe, ref.stage) == ("teacher.yaml", "fit")
    assert float(teacher.module.state_dict()["fc.bias"].min()) > 8


def test_a_teacher_that_memory_has_no_room_for_is_refused_with_the_sizes(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan("by: 1.0", "by: 9.0", name="teacher.yaml")
    taught = plan("by: 0.5}", "by: 0.5, teachers: [{recipe: teacher.yaml, stage: fit}]}")
    monkeypatch.setattr("mcomp.executor.free_bytes", lambda: 40)
    with pytest.raises(StageError, match=r"the model of teacher.yaml takes 0\.00 GB of memory, and 0\.00 GB"):
        seen_by(taught, store, monkeypatch, steps=3)
    monkeypatch.setattr("mcomp.executor.free_bytes", lambda: None)
    assert len(seen_by(taught, store, monkeypatch, steps=3)) == 3


def test_seeds_differ_by_recipe_and_by_kind_of_stage_only(
    plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = seen_by(plan(), Store(tmp_path / "a"), monkeypatch, steps=2)
    assert first[1].seed == second[1].seed
    (other,) = seen_by(plan("version: 1", "version: 1\nseed: 1"), Store(tmp_path / "b"), monkeypatch)
    assert other[1].seed != first[1].seed


def test_data_is_loaded_once_for_all_steps_that_use_it(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyPoints, "loaded", 0)
    run(plan(), store, steps=4)
    assert ToyPoints.loaded == 1


def test_data_that_cannot_be_loaded_is_told_at_its_place_in_the_recipe(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ToyPoints) -> None:
        raise RecipeError(Problem("", "path", "holds a number that is not finite"))

    monkeypatch.setattr(ToyPoints, "load", broken)
    with pytest.raises(RecipeError, match=r"toy\.yaml:\d+:\d+: data\.path: holds a number"):
        run(plan(), store)


# Where a pipeline starts


def origin(checkpoint: Path | None = None, seed: int = 0) -> Origin:
    return Origin("0" * 64, ToyNet(), seed, checkpoint, "toy", "toy.yaml:3:8")


def weights(model: Model) -> torch.Tensor:
    return model.module.state_dict()["fc.weight"]


def test_fresh_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    first = original(origin())
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(weights(original(origin())), weights(first))
    assert not torch.equal(weights(original(origin(seed=1))), weights(first))


def test_the_weights_of_a_file_take_the_place_of_fresh_ones(tmp_path: Path) -> None:
    save_file(PointNet().state_dict(), tmp_path / "w.safetensors")
    loaded = original(origin(tmp_path / "w.safetensors"))
    assert not torch.equal(weights(loaded), weights(original(origin())))


def test_a_file_that_does_not_fit_is_told_at_its_place_in_the_recipe(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(4, 2)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError) as caught:
        original(origin(tmp_path / "w.safetensors"))
    assert all(problem.where == "toy.yaml:3:8" for problem in caught.value.problems)
    assert str(caught.value).startswith("toy.yaml:3:8: model.checkpoint: ")


def test_a_mistake_in_the_recipe_stays_one_though_a_step_finds_it(plan: MakePlan, store: Store) -> None:
    made = plan("{type: toy.net}", "{type: lenet5}")
    with pytest.raises(RecipeError, match="lenet5: the data does not say image_size"):
        run(made, store)


def test_a_result_that_is_gone_is_named(plan: MakePlan, store: Store) -> None:
    made = plan()
    with pytest.raises(CorruptArtifact, match=f"the result {made.steps[0].key[:12]} that this step rests on"):
        Executor(store, Quiet()).execute(made.steps[1], {})


# What is kept


def test_a_model_is_kept_with_its_figures_and_facts(plan: MakePlan, store: Store) -> None:
    artifact = run(plan(), store)
    assert artifact.names() == ["model/model.json", "model/weights.safetensors", "report.json"]
    kept = report(artifact)
    assert kept["facts"] == {"by": 1.0}
    assert kept["figures"]["parameters"] == 9
    assert 0 <= kept["figures"]["validation"] <= 1


def test_a_gap_is_measured_on_as_many_training_samples_as_validation_has() -> None:
    splits = ToyPoints().load()
    few = splits.split("validation").batch(torch.arange(5))
    short = {**splits.by_name, "validation": TensorSplit(few.indices, few.inputs, few.target)}
    part = part_of_train(Splits(short))
    seen = part.batch(torch.arange(5)).indices
    assert len(part) == 5
    assert set(seen.tolist()) <= set(splits.split("train").batch(torch.arange(NUM_SAMPLES)).indices.tolist())


def test_an_export_is_kept_with_its_size(plan: MakePlan, store: Store) -> None:
    artifact = run(plan(), store, steps=3)
    assert artifact.names() == ["files/model.onnx", "report.json"]
    assert report(artifact)["figures"]["size_bytes"] == artifact.file("files/model.onnx").stat().st_size


def test_what_a_step_cost_is_kept_beside_it(plan: MakePlan, store: Store) -> None:
    artifact = run(plan(), store)
    cost = store.measurement(artifact.key, "cost")
    assert cost is not None
    assert set(cost) == {"seconds", "peak_memory_bytes"}
    assert "cost" not in json.dumps(artifact.names())


def test_the_same_step_gives_the_same_bytes(plan: MakePlan, tmp_path: Path) -> None:
    kept = [run(plan(), Store(tmp_path / name), steps=3).manifest.files for name in "ab"]
    assert kept[0] == kept[1]


class WithoutTest(Splits):
    def split(self, name: SplitName) -> TensorSplit:
        assert name != "test"
        return super().split(name)


def test_no_step_touches_the_test_split(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ToyPoints.load
    monkeypatch.setattr(ToyPoints, "load", lambda self: WithoutTest(load(self).by_name))
    assert run(plan(), store, steps=4).names() == ["files/model.onnx", "report.json"]


# That something changed


def changed_weight(model: Model) -> Model:
    with torch.no_grad():
        model.module.state_dict()["fc.weight"][0, 0] += 1e-3
    return model


def changed_state(model: Model) -> Model:
    model.state["masks.fc.weight"][0, 0] = False
    return model


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda model: model, True),
        (changed_weight, False),
        (changed_state, False),
        (lambda model: replace(model, edits=()), False),
    ],
)
def test_models_are_the_same_if_structure_and_numbers_are(
    change: Callable[[Model], Model], same: bool
) -> None:
    source = original(origin()).edited(Masks(names=("fc.weight",)))
    changed = change(source.copy())
    assert same_model(changed, source) == same
    if same:
        with pytest.raises(StageError, match="the stage changed nothing"):
            require_effect(StageResult(changed), source)
        require_effect(StageResult(changed, unchanged="nothing to do"), source)
    else:
        require_effect(StageResult(changed), source)


def test_a_stage_that_gives_back_nothing_has_no_effect(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="the stage changed nothing"):
        require_effect(StageResult(None), original(origin()))
    require_effect(StageResult(None, files={"a": tmp_path}), original(origin()))


# Stages that break out


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit("enough"), SystemExit()])
def test_a_stage_that_exits_has_failed(
    error: SystemExit, plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaves(self: ToyFit, model: Model, context: Context) -> StageResult:
        raise error

    monkeypatch.setattr(ToyFit, "run", leaves)
    with pytest.raises(StageError, match="toy/fit: SystemExit"):
        run(plan(), store)
    assert store.find(plan().steps[0].key) is None


def test_an_error_that_cannot_be_said_is_named_by_its_class(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    def fails(self: ToyFit, model: Model, context: Context) -> StageResult:
        raise Silent

    monkeypatch.setattr(ToyFit, "run", fails)
    with pytest.raises(StageError, match=r"toy/fit: Silent$"):
        run(plan(), store)


def scratch_file(context: Context) -> Path:
    (context.folder / "a.bin").write_bytes(b"x")
    return context.folder / "a.bin"


def linked_file(context: Context) -> Path:
    (context.folder.parents[2] / "secret").write_bytes(b"secret")
    (context.folder / "a.bin").symlink_to(context.folder.parents[2] / "secret")
    return context.folder / "a.bin"


def file_elsewhere(context: Context) -> Path:
    (context.folder.parents[2] / "secret").write_bytes(b"secret")
    return context.folder.parents[2] / "secret"


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("../../../pwned", scratch_file),
        ("/tmp/pwned", scratch_file),
        ("", scratch_file),
        (".", scratch_file),
        ("a.bin", linked_file),
        ("a.bin", file_elsewhere),
        ("a.bin", lambda context: context.folder),
        ("a.bin", lambda context: context.folder / "gone"),
    ],
)
def test_a_stage_keeps_only_what_it_wrote_into_its_folder(
    name: str,
    write: Callable[[Context], Path],
    plan: MakePlan,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def writes(self: ToyFit, model: Model, context: Context) -> StageResult:
        changed = model.copy()
        with torch.no_grad():
            next(changed.module.parameters()).add_(1)
        return StageResult(changed, files={name: write(context)})

    monkeypatch.setattr(ToyFit, "run", writes)
    with pytest.raises(StageError, match="no plain file in the folder that the stage was given"):
        run(plan(), store)
    secret = store.root / "secret"
    assert not secret.exists() or secret.read_bytes() == b"secret"
    assert store.find(plan().steps[0].key) is None
