from __future__ import annotations

import pytest
from pydantic import ValidationError

from mcomp_stages.methods.distillation.config import DKD, KD, DistilledTraining

TEACHER = {"recipe": "teacher.yaml"}


def test_teachers_are_followed_by_kd_unless_said_otherwise() -> None:
    assert DistilledTraining.model_validate({"epochs": 1, "teachers": [TEACHER]}).loss == KD()
    dkd = {"epochs": 1, "teachers": [TEACHER], "loss": {"type": "dkd", "beta": 4}}
    assert DistilledTraining.model_validate(dkd).loss == DKD(beta=4)


def test_a_loss_without_teachers_is_refused() -> None:
    with pytest.raises(ValidationError, match="there are no teachers"):
        DistilledTraining.model_validate({"epochs": 1, "loss": {"type": "kd"}})


def test_an_unknown_loss_is_answered_with_the_choices() -> None:
    with pytest.raises(ValidationError, match="'kd', 'dkd'"):
        DistilledTraining.model_validate({"epochs": 1, "teachers": [TEACHER], "loss": {"type": "kl"}})


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"weight": 0}, {"weight": 1.1}, {"beta": 1}])
def test_values_out_of_range_and_fields_of_another_loss_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        KD.model_validate(wrong)
