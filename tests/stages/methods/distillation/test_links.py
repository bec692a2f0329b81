"""Terms about features inside a training: what is tapped, adapted, trained, and gone from the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mcomp.data.contract import Batch
from mcomp.errors import StageError
from mcomp.model.checkpoint import save_model
from mcomp.recipe.schema import RecipeRef
from mcomp.training import loop
from mcomp.training.config import AdamW
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.distillation.features import squared_difference
from mcomp_stages.methods.distillation.links import DISTANCES, Link
from mcomp_stages.methods.distillation.relations import relation_divergence, token_relations
from mcomp_stages.methods.distillation.terms import FeatureTerms, FitNet, HiddenStates, Relations, Tap
from mcomp_stages.methods.distillation.training import fit_with_teachers
from mcomp_stages.quantize.qat import QuantizeQat
from tests.mcomp.training.setting import Quiet, make_context, small_model, weights

TEACHER = RecipeRef(recipe="teacher.yaml")
CONV = {"student": "conv", "teacher": "conv"}
FEATURES = ("fitnet", "at", "sp", "rkd", "crd")


def wide_teacher() -> Any:
    """Return a teacher with other widths inside."""
    model = small_model(seed=5)
    model.module.add_module("conv", nn.Conv2d(1, 7, 3, padding=1))
    model.module.add_module("norm", nn.BatchNorm2d(7))
    model.module.add_module("fc", nn.Linear(7, 3))
    model.module.eval()
    return replace(model)


def training(*terms: dict[str, Any], **fields: Any) -> DistilledTraining:
    return DistilledTraining.model_validate(
        {"epochs": 2, "optimizer": AdamW(lr=0.01), "teachers": [TEACHER], "loss": list(terms), **fields}
    )


@pytest.mark.parametrize("kind", FEATURES)
def test_every_term_teaches_a_student_of_another_width_alone(kind: str) -> None:
    context = make_context(models={TEACHER: wide_teacher()})
    fields = training({"type": kind, "taps": [CONV]}, labels=0, epochs=8, keep="last")
    result = fit_with_teachers(small_model(), fields, context, "distill")
    assert result.history[-1].train_loss < result.history[0].train_loss


@pytest.mark.parametrize("kind", FEATURES)
def test_adapters_are_gone_from_the_result(kind: str, tmp_path: Path) -> None:
    student = small_model()
    context = make_context(models={TEACHER: wide_teacher()})
    result = fit_with_teachers(student, training({"type": kind, "taps": [CONV]}), context, "distill")
    save_model(result.model, tmp_path)
    assert load_file(tmp_path / "weights.safetensors").keys() == student.module.state_dict().keys()
    assert not any(part._forward_hooks for part in result.model.module.modules())
    assert json.loads((tmp_path / "model.json").read_text())["edits"] == []


def test_a_quantized_student_is_tapped_by_the_paths_of_its_model(tmp_path: Path) -> None:
    context = make_context(models={TEACHER: wide_teacher()})
    stage = QuantizeQat(training=training({"type": "fitnet", "taps": [CONV], "weight": 1.0}, epochs=1))
    result = stage.run(small_model(), context)
    assert result.model is not None
    save_model(result.model, tmp_path)
    names = load_file(tmp_path / "weights.safetensors").keys()
    assert not [name for name in names if "tap" in name or "links" in name or "adapter" in name]
    assert result.facts["distillation"]["taps"] == ["fitnet: conv from conv, adapter of 35 weights"]


def test_a_quantized_student_feels_the_term_about_features() -> None:
    def trained(weight: float) -> dict[str, Tensor]:
        context = make_context(models={TEACHER: small_model(seed=7)})
        fields = training({"type": "fitnet", "taps": [CONV], "weight": weight}, epochs=1)
        result = QuantizeQat(training=fields).run(small_model(), context)
        assert result.model is not None
        return weights(result.model)

    assert not torch.equal(trained(0.1)["conv.weight"], trained(5.0)["conv.weight"])


def test_the_report_says_what_was_compared_and_how_teachers_were_asked() -> None:
    context = make_context(models={TEACHER: small_model(3)})
    result = fit_with_teachers(small_model(), training({"type": "fitnet"}), context, "distill")
    assert result.facts()["distillation"] == {
        "taps": ["fitnet: norm from norm"],
        "teachers_asked": ["once"],
    }


@pytest.mark.parametrize(
    ("term", "told"),
    [
        ({"type": "fitnet", "taps": [{"student": "convv", "teacher": "conv"}]}, "did you mean 'conv'"),
        ({"type": "fitnet", "taps": [{"student": "conv", "teacher": "nrm"}]}, "did you mean 'norm'"),
        ({"type": "at", "taps": [{"student": "conv", "teacher": "fc"}]}, r"at: conv and fc: .* gives \(3,\)"),
        ({"type": "hidden", "taps": [CONV]}, r"hidden: conv and conv: .* not the same tokens"),
        ({"type": "relations", "heads": 2, "taps": [CONV]}, "no module is called 'conv.query'"),
    ],
)
def test_what_does_not_fit_is_told_before_training(term: dict[str, Any], told: str) -> None:
    context = make_context(models={TEACHER: wide_teacher()})
    with pytest.raises(StageError, match=told):
        fit_with_teachers(small_model(), training(term), context, "distill")
    assert isinstance(context.reporter, Quiet)
    assert context.reporter.steps == 0


def test_adapters_are_trained_with_the_student(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    save, made = loop.load_kept, []

    def kept(state: Any, fields: Any) -> Any:
        made.append(state.module.links[0].adapter.project.weight.detach().clone())
        return save(state, fields)

    class Noted(Link):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            seen.append(next(self.adapter.parameters()).detach().clone())

    monkeypatch.setattr(loop, "load_kept", kept)
    monkeypatch.setattr("mcomp_stages.methods.distillation.training.Link", Noted)
    context = make_context(models={TEACHER: wide_teacher()})
    fit_with_teachers(small_model(), training({"type": "fitnet", "taps": [CONV]}), context, "distill")
    assert not torch.equal(seen[0], made[0])


TOKENS = {
    "s.query": torch.randn(2, 4, 8),
    "s.key": torch.randn(2, 4, 8),
    "s.value": torch.randn(2, 4, 8),
    "t.query": torch.randn(2, 4, 12),
    "t.key": torch.randn(2, 4, 12),
    "t.value": torch.randn(2, 4, 12),
}
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
BATCH = Batch(torch.arange(2), {"attention_mask": MASK}, torch.zeros(2, 0))


def test_attention_and_values_are_related_by_head_under_the_mask() -> None:
    config = Relations(taps=(Tap(student="s", teacher="t"),), heads=4)
    link = Link(config, config.taps[0], TOKENS, TOKENS)
    expected = sum(
        relation_divergence(
            token_relations(TOKENS[f"s.{left}"], TOKENS[f"s.{right}"], 4, MASK),
            token_relations(TOKENS[f"t.{left}"], TOKENS[f"t.{right}"], 4, MASK),
            MASK,
        )
        for left, right in (("query", "key"), ("value", "value"))
    )
    assert torch.isclose(link(TOKENS, TOKENS, BATCH), torch.as_tensor(expected))


def test_heads_that_do_not_part_a_width_are_refused() -> None:
    config = Relations(taps=(Tap(student="s", teacher="t"),), heads=5)
    with pytest.raises(StageError, match="a width of 8 does not part into 5 heads"):
        Link(config, config.taps[0], TOKENS, TOKENS)


def test_hidden_states_of_padding_do_not_count() -> None:
    config = HiddenStates()
    link = Link(config, Tap(student="s.key", teacher="t.key"), TOKENS, TOKENS)
    adapted, teacher = link.adapter(TOKENS["s.key"], TOKENS["t.key"])
    assert torch.isclose(link(TOKENS, TOKENS, BATCH), squared_difference(adapted, teacher, MASK))


def test_every_term_has_a_distance() -> None:
    kinds = {kind.model_fields["type"].default for kind in FeatureTerms.__args__}
    assert kinds == DISTANCES.keys()
    assert FitNet().type in kinds
