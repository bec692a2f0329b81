from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp import fingerprint, step_key
from mcomp.errors import RecipeError
from mcomp.plan import Origin, Plan, make_plan
from mcomp.recipe.build import load_recipe
from mcomp_stages.data.digits import DigitsConfig
from mcomp_stages.models.lenet5 import LeNet5Config
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.prune.channels import PruneChannels
from mcomp_stages.tasks.classification import ClassificationConfig
from tests.mcomp.toys import RECIPE as TOY
from tests.tiny import STEPS, TEACHER, TINY, write_recipes

KEYS_OF = ("teacher/train", "distill", "prune", "qat", "export", "baseline")
MakePlan = Callable[..., Plan]


@pytest.fixture
def plan(tmp_path: Path) -> MakePlan:
    """Return the plan of the tiny recipe, with some text of it, or of its teacher's, replaced."""

    def plan(old: str = "", new: str = "", *overrides: str, teacher: tuple[str, str] = ("", "")) -> Plan:
        path = write_recipes(tmp_path, old, new)
        assert teacher[0] in TEACHER
        (tmp_path / "teacher.yaml").write_text(TEACHER.replace(*teacher) if teacher[0] else TEACHER)
        return make_plan(load_recipe(path, overrides))

    return plan


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Return the plan of the tiny recipe as it is."""
    return make_plan(load_recipe(write_recipes(tmp_path_factory.mktemp("base"))))


def keys(plan: Plan) -> dict[str, str]:
    """Return the key of each step by its name."""
    own = dict(plan.pipeline)
    return {"teacher/train": plan.steps[0].key, **own, "baseline": plan.baselines["export"]}


def changed(before: Plan, after: Plan) -> set[str]:
    """Return the names of the steps whose keys differ."""
    return {name for name, key in keys(before).items() if keys(after)[name] != key}


ALL, OWN = set(KEYS_OF), {"distill", "prune", "qat", "export"}
FROM_PRUNE, FROM_QAT, LAST = OWN - {"distill"}, {"qat", "export"}, {"export", "baseline"}

# An override, or a replacement in the recipe; and the steps whose results it changes. The baseline's export
# is a step of this recipe: what the recipe says about data and seed is in its key too.
MATTERS = {
    "seed": ("seed=1", OWN | {"baseline"}),
    "epochs": ("stages.distill.training.epochs=2", OWN),
    "learning rate": ("stages.qat.training.optimizer={type: sgd, lr: 0.02}", FROM_QAT),
    "a default made explicit to something else": ("stages.qat.observer.type=moving_average", FROM_QAT),
    "importance": ("stages.prune.importance=l1", FROM_PRUNE),
    "target": ("stages.prune.target.macs=0.61", FROM_PRUNE),
    "recovery": ("stages.prune.recover.epochs=2", FROM_PRUNE),
    "no recovery": ("~stages.prune.recover", FROM_PRUNE),
    "the width of an override": ("stages.prune.skip=[conv1]", FROM_PRUNE),
    "opset": ("stages.export.opset=22", LAST),
    "image size": ("data.image_size=16", OWN | {"baseline"}),
    "batch size": ("data.batch_size=32", OWN | {"baseline"}),
    "model": ("model={type: resnet, depth: 20, width: 8}", OWN),
    "task": ("+task={type: classification, num_classes: 11}", OWN | {"baseline"}),
    "threads": ("compute.threads=2", OWN | {"baseline"}),
    "device": ("compute.device=cpu", OWN | {"baseline"}),
    "precision": ("compute.precision=bf16-mixed", OWN | {"baseline"}),
    "baseline": ("~baseline", {"baseline"}),
    "order": ("pipeline=[distill,qat,export]", {"qat", "export"}),
}  # fmt: skip


@pytest.mark.parametrize("what", MATTERS)
def test_what_matters_changes_the_keys_from_there_on(what: str, plan: MakePlan, base: Plan) -> None:
    override, expected = MATTERS[what]
    before, after = base, plan("", "", override)
    names = set(keys(after))
    assert {name for name in names if keys(before)[name] != keys(after)[name]} == expected & names


@pytest.mark.parametrize(
    ("old", "new"),
    [("epochs: 1", "epochs: 2"), ("lr: 0.05", "lr: 0.04"), ("version: 1", "version: 1\nseed: 3")],
)
def test_what_the_teacher_is_made_by_is_in_the_keys_of_what_learns_from_it(
    old: str, new: str, plan: MakePlan, base: Plan
) -> None:
    assert changed(base, plan(teacher=(old, new))) == ALL


def test_a_reference_that_picks_another_model_is_another_key(plan: MakePlan, base: Plan) -> None:
    two = ("{type: sgd, lr: 0.05}}}", "{type: sgd, lr: 0.05}}}\n  more: {type: train, training: {epochs: 1}}")
    last = plan(teacher=two)
    first = plan("[{recipe: teacher.yaml}]", "[{recipe: teacher.yaml, stage: train}]", teacher=two)
    assert keys(first)["distill"] != keys(last)["distill"]
    assert keys(first)["distill"] == keys(base)["distill"]


def test_overrides_of_a_teacher_are_in_the_key_of_what_learns_from_it(plan: MakePlan, base: Plan) -> None:
    other = plan("[{recipe: teacher.yaml}]", "[{recipe: teacher.yaml, overrides: [seed=1]}]")
    assert changed(base, other) >= OWN
    assert "baseline" not in changed(base, other)
    assert [step.label for step in other.steps].count("teacher/train") == 2


DOES_NOT_MATTER = {
    "comments and blank lines": ("version: 1\n", "# a comment\n\nversion: 1   # another\n\n"),
    "order of keys": (
        "    target: {macs: 0.6}\n    round_to: 1\n",
        "    round_to: 1\n    target: {macs: 0.6}\n",
    ),
    "flow and block style": (
        "  export: {type: export.onnx}",
        "  export:\n    type: export.onnx",
    ),
    "quotes": ("importance: l2", "importance: 'l2'"),
    "another way to write a number": ("macs: 0.6", "macs: 0.60"),
    "a default made explicit": ("importance: l2", "importance: l2\n    nearest: false"),
    "description": ("version: 1", "version: 1\ndescription: better"),
    "name": ("name: tiny", "name: small"),
    "requirements": ("{min: 2.0}", "{min: 3.0}"),
    "measuring": ("rounds: 3", "rounds: 5"),
    "unused stages": ("stages:", "stages:\n  unused: {type: train, training: {epochs: 3}}"),
    "device left to the machine": ("version: 1", "version: 1\ncompute: {device: auto}"),
}  # fmt: skip


@pytest.mark.parametrize("what", DOES_NOT_MATTER)
def test_what_does_not_matter_changes_no_key(what: str, plan: MakePlan, base: Plan) -> None:
    assert changed(base, plan(*DOES_NOT_MATTER[what])) == set()


def test_the_place_of_a_recipe_and_its_teacher_does_not_matter(base: Plan, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    path = write_recipes(folder, "[{recipe: teacher.yaml}]", "[{recipe: teachers/t.yaml}]")
    path.write_text(
        path.read_text().replace("{recipe: teacher.yaml}", "{recipe: ./teachers/../teachers/t.yaml}")
    )
    (folder / "teachers").mkdir()
    (folder / "teacher.yaml").rename(folder / "teachers" / "t.yaml")
    moved = make_plan(load_recipe(path))
    assert changed(base, moved) == set()


def test_the_names_of_stages_do_not_matter(plan: MakePlan, base: Plan) -> None:
    renamed = TINY.replace("distill", "learn").replace("learn.offline", "distill.offline")
    after = plan(TINY, renamed)
    assert after.pipeline["learn"] == base.pipeline["distill"]
    assert after.pipeline["export"] == base.pipeline["export"]


# Keys beyond the recipe's text


@pytest.mark.parametrize("library", fingerprint.MAKERS)
def test_the_version_of_each_library_that_makes_the_bytes_is_in_every_key(
    library: str, plan: MakePlan, base: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = fingerprint.version
    monkeypatch.setattr(fingerprint, "version", lambda name: "99" if name == library else known(name))
    fingerprint.makers.cache_clear()
    try:
        assert changed(base, plan()) == ALL
    finally:
        fingerprint.makers.cache_clear()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (PruneChannels, FROM_PRUNE),
        (LeNet5Config, ALL),
        (DigitsConfig, ALL),
        (ClassificationConfig, ALL),
    ],
)
def test_the_version_of_a_plugin_is_in_the_keys_of_what_it_makes(
    kind: type, expected: set[str], plan: MakePlan, base: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "version", "another")
    assert changed(base, plan()) == expected


def test_the_sources_of_what_makes_the_results_are_in_every_key(
    plan: MakePlan, base: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_key, "sources", lambda kind: {"mcomp_stages": "edited"})
    assert changed(base, plan()) == ALL


def test_the_format_of_keys_is_in_every_key(
    plan: MakePlan, base: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_key, "KEY_FORMAT", step_key.KEY_FORMAT + 1)
    assert changed(base, plan()) == ALL


def test_the_content_of_the_data_is_in_every_key(
    plan: MakePlan, base: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DigitsConfig, "digest", lambda self: "other images")
    assert changed(base, plan()) == ALL


def test_the_bytes_of_a_checkpoint_are_in_the_keys_and_its_name_is_not(
    plan: MakePlan, tmp_path: Path
) -> None:
    def with_file(name: str, content: bytes) -> Plan:
        write_recipes(tmp_path)
        (tmp_path / name).write_bytes(content)
        return plan("model: {type: lenet5}", f"model: {{type: lenet5, checkpoint: {name}}}", "~baseline")

    first = with_file("a.pt", b"one")
    assert with_file("b.pt", b"one").pipeline == first.pipeline
    assert with_file("a.pt", b"two").pipeline["distill"] != first.pipeline["distill"]


def test_a_field_without_effect_is_in_no_key(tmp_path: Path) -> None:
    def toy(text: str) -> Plan:
        (tmp_path / "toy.yaml").write_text(text)
        return make_plan(load_recipe(tmp_path / "toy.yaml"))

    noted = toy(TOY.replace("by: 1.0", "by: 1.0, note: hear"))
    assert noted.pipeline == toy(TOY).pipeline
    assert toy(TOY.replace("by: 1.0", "by: 1.1")).pipeline != noted.pipeline


# Steps


def test_steps_stand_behind_what_they_need_and_once_each(base: Plan) -> None:
    made = base
    assert tuple(step.label for step in made.steps) == STEPS
    seen: set[str] = set()
    for step in made.steps:
        assert seen.issuperset(step.needs())
        seen.add(step.key)
    assert len(seen) == len(made.steps)


def test_a_step_is_found_by_its_key_and_proves_it(base: Plan) -> None:
    made = base
    for step in made.steps:
        assert made.step(step.key) is step
        assert fingerprint.fingerprint(step.key_json) == step.key


def test_recipes_that_begin_alike_share_steps(plan: MakePlan, base: Plan) -> None:
    short = plan("[distill, prune, qat, export]", "[distill, qat, export]")
    assert short.pipeline["distill"] == base.pipeline["distill"]
    assert short.pipeline["qat"] != base.pipeline["qat"]


def test_models_that_nobody_asks_for_are_not_made(plan: MakePlan) -> None:
    """The teacher's own export and what comes after the stage that is referred to."""
    rest = "  more: {type: train, training: {epochs: 1}}\n  save: {type: export.onnx, opset: 22}\n"
    text = TINY.replace("{recipe: teacher.yaml}", "{recipe: teacher.yaml, stage: train}")
    made = plan(TINY, text, teacher=(TEACHER, TEACHER + rest))
    assert tuple(step.label for step in made.steps) == STEPS


def test_a_reference_without_a_stage_means_the_last_model_not_the_last_file(
    plan: MakePlan, base: Plan
) -> None:
    exported = ("{type: sgd, lr: 0.05}}}", "{type: sgd, lr: 0.05}}}\n  save: {type: export.onnx}")
    assert changed(base, plan(teacher=exported)) == set()


def test_without_a_pipeline_the_order_of_the_stages_counts(plan: MakePlan, base: Plan) -> None:
    assert plan("pipeline: [distill, prune, qat, export]\n", "").pipeline == base.pipeline


def test_what_follows_an_export_goes_on_from_its_input(plan: MakePlan, base: Plan) -> None:
    both = plan(
        "pipeline: [distill,", "pipeline: [distill, early,", "+stages.early={type: export.onnx, opset: 22}"
    )
    assert both.pipeline["export"] == base.pipeline["export"]
    assert [name for name, _ in both.exports()] == ["early", "export"]
    assert set(both.baselines) == {"early", "export"}


def test_the_default_baseline_is_the_first_trained_model(plan: MakePlan) -> None:
    made = plan("", "", "~baseline")
    assert made.step(made.baselines["export"]).source == made.pipeline["distill"]


def test_a_model_that_comes_trained_is_its_own_baseline(plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"weights")
    text = TINY.replace("{type: lenet5}", "{type: lenet5, checkpoint: w.pt}")
    made = plan(TINY, text, "~baseline")
    source = made.step(made.baselines["export"]).source
    assert isinstance(source, Origin)
    assert source.checkpoint == tmp_path / "w.pt"


def test_a_recipe_that_starts_from_another_ones_model_continues_its_steps(plan: MakePlan) -> None:
    text = TINY.replace("{type: lenet5}", "{type: lenet5, checkpoint: {recipe: teacher.yaml}}")
    made = plan(TINY, text)
    assert made.step(made.pipeline["distill"]).source == made.steps[0].key


# Parts that do not fit each other


def refused(
    plan: MakePlan, old: str = "", new: str = "", *overrides: str, teacher: tuple[str, str] = ("", "")
) -> str:
    with pytest.raises(RecipeError) as caught:
        plan(old, new, *overrides, teacher=teacher)
    return str(caught.value)


def test_pruning_after_quantization_is_refused_at_its_place(plan: MakePlan) -> None:
    message = refused(plan, "[distill, prune, qat, export]", "[distill, qat, prune, export]")
    assert re.search(
        r"tiny\.yaml:\d+:\d+: stages\.prune\.type: prune\.channels takes a float model, and the stage before "
        r"it leaves a quantized one; change the order in pipeline, or take one of the two out of it$",
        message,
    )


@pytest.mark.parametrize("first", ["prune", "qat", "export"])
def test_work_on_weights_that_nothing_trained_is_refused(first: str, plan: MakePlan) -> None:
    order = {"prune": "[prune, qat, export]", "qat": "[qat, export]", "export": "[export]"}
    message = refused(plan, "[distill, prune, qat, export]", order[first])
    assert f"stages.{first}.type: " in message
    assert "needs trained weights, and nothing before it trained or loaded any" in message
    assert "set model.checkpoint, or put a train or distill stage before it" in message


def test_recipes_that_refer_to_each_other_in_a_circle_are_refused(plan: MakePlan) -> None:
    back = ("{type: lenet5}", "{type: lenet5, checkpoint: {recipe: tiny.yaml}}")
    message = refused(plan, teacher=back)
    assert "recipes refer to each other in a circle: tiny.yaml -> teacher.yaml -> tiny.yaml" in message
    assert re.match(r".*teacher\.yaml:3:\d+: model\.checkpoint\.recipe", message)


def test_a_recipe_cannot_learn_from_itself(plan: MakePlan) -> None:
    message = refused(plan, "teachers: [{recipe: teacher.yaml}]", "teachers: [{recipe: tiny.yaml}]")
    assert "in a circle: tiny.yaml -> tiny.yaml" in message


def test_a_recipe_can_be_compared_with_a_model_of_its_own(plan: MakePlan, base: Plan) -> None:
    made = plan("baseline: {recipe: teacher.yaml}", "baseline: {recipe: tiny.yaml, stage: distill}")
    assert made.step(made.baselines["export"]).source == made.pipeline["distill"]
    assert made.pipeline == base.pipeline


def test_a_reference_to_a_stage_that_is_not_there_lists_those_that_are(plan: MakePlan) -> None:
    message = refused(plan, "[{recipe: teacher.yaml}]", "[{recipe: teacher.yaml, stage: trian}]")
    assert "stages.distill.teachers.0.stage: teacher.yaml has no stage 'trian' in its pipeline" in message
    assert message.endswith("choose one of: train")


def test_a_recipe_that_only_exports_stands_for_its_checkpoint(plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"weights")
    only = TEACHER.replace("{type: lenet5}", "{type: lenet5, checkpoint: w.pt}")
    only = only[: only.index("  train:")] + "  save: {type: export.onnx}\n"
    made = plan(teacher=(TEACHER, only))
    (teacher,) = made.step(made.pipeline["distill"]).models.values()
    assert isinstance(teacher, Origin)
    assert teacher.checkpoint == tmp_path / "w.pt"


def test_a_mistake_in_another_recipe_is_told_at_its_place_there(plan: MakePlan) -> None:
    message = refused(plan, teacher=("epochs: 1", "epochs: 0"))
    assert re.match(r".*teacher\.yaml:6:\d+: stages\.train\.training\.epochs: must be at least 1", message)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("resnet, depth: 20", 'model.type: is "resnet", but the recipe of the checkpoint has "lenet5"'),
        ("lenet5, image_size: 16", "model.image_size: is 16, but the recipe of the checkpoint has 12"),
        ("lenet5, num_classes: 12", "model.num_classes: is 12, but the recipe of the checkpoint has 10"),
    ],
)
def test_a_model_that_contradicts_the_recipe_it_is_loaded_from_is_refused(
    model: str, told: str, plan: MakePlan
) -> None:
    message = refused(plan, "{type: lenet5}", f"{{type: {model}, checkpoint: {{recipe: teacher.yaml}}}}")
    assert told in message
    assert len(message.splitlines()) == 1


def test_what_a_model_leaves_open_comes_from_the_recipe_it_is_loaded_from(plan: MakePlan) -> None:
    deep = ("{type: lenet5}", "{type: resnet, depth: 32, width: 8}")
    text = TINY.replace("{type: lenet5}", "{type: resnet, checkpoint: {recipe: teacher.yaml}}")
    made = plan(TINY, text, teacher=deep)
    assert made.step(made.pipeline["distill"]).source == made.steps[0].key


PEERS = """
version: 1
name: peers
seed: 0
model: {type: lenet5}
data: {type: digits, image_size: 16, batch_size: 64}
stages:
  distill:
    type: distill.online
    architectures: [{}, {type: resnet, depth: 8}]
    training: {epochs: 1}
"""


def plan_of_peers(folder: Path, old: str = "", new: str = "") -> Plan:
    (folder / "peers.yaml").write_text(PEERS.replace(old, new) if old else PEERS)
    return make_plan(load_recipe(folder / "peers.yaml"))


def test_what_peers_are_made_by_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan_of_peers(tmp_path).pipeline
    monkeypatch.setattr(ResNetConfig, "version", "another")
    assert plan_of_peers(tmp_path).pipeline != before


def test_a_peer_of_an_unknown_type_is_refused_at_its_place(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        plan_of_peers(tmp_path, "type: resnet", "type: resnt")
    told = str(caught.value)
    assert "peers.yaml:10:32: stages.distill.architectures.1.type: unknown type 'resnt'" in told
    assert "did you mean 'resnet'?" in told
