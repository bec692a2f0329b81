from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from mcomp.recipe.schema import RecipeRef
from mcomp.training.config import SGD, Constant, Training
from mcomp_stages.distill import offline
from mcomp_stages.distill.offline import DistillOffline
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.distillation.terms import DKD
from mcomp_stages.methods.distillation.training import fit_with_teachers
from tests.mcomp.training.setting import make_context, same, small_model, weights
from tests.stages.samples import sample_of

TEACHER = RecipeRef(recipe="teacher.yaml")


def test_sample_in_the_manual_is_valid() -> None:
    loss = DistillOffline.model_validate(sample_of(offline)).loss
    assert [term.type for term in loss] == ["dist", "fitnet"]


def test_teachers_loss_and_training_all_reach_the_loop() -> None:
    training = {"epochs": 2, "optimizer": SGD(lr=0.01), "schedule": Constant(), "keep": "last"}
    context = make_context(models={TEACHER: small_model(seed=5)})
    stage = DistillOffline.model_validate({"teachers": (TEACHER,), "loss": DKD(beta=1), "training": training})
    result = stage.run(small_model(), context)
    same_in_one = DistilledTraining.model_validate({**training, "teachers": (TEACHER,), "loss": DKD(beta=1)})
    expected = fit_with_teachers(small_model(), same_in_one, context, "other")
    assert result.model is not None
    assert same(weights(result.model), weights(expected.model))
    assert json.loads(json.dumps(result.facts))["epochs"] == 2


def test_distillation_without_teachers_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        DistillOffline(teachers=(), training=Training(epochs=1))
