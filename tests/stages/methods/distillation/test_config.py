from __future__ import annotations

import pytest
from pydantic import ValidationError

from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.distillation.terms import DKD, KD, FitNet, Ramp

TEACHER = {"recipe": "teacher.yaml"}


def test_teachers_are_followed_by_kd_unless_said_otherwise() -> None:
    assert DistilledTraining.model_validate({"epochs": 1, "teachers": [TEACHER]}).loss == (KD(),)
    dkd = {"epochs": 1, "teachers": [TEACHER], "loss": {"type": "dkd", "beta": 4}}
    assert DistilledTraining.model_validate(dkd).loss == (DKD(beta=4),)


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


def test_several_terms_are_a_list() -> None:
    loss = [{"type": "kd", "weight": 0.5}, {"type": "fitnet", "weight": {"start": 2, "end": 0}}]
    found = DistilledTraining.model_validate({"epochs": 1, "teachers": [TEACHER], "loss": loss}).loss
    assert found == (KD(weight=0.5), FitNet(weight=Ramp(start=2, end=0)))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"loss": []}, "at least 1"),
        ({"loss": [{"type": "fitnet", "taps": []}]}, "at least 1"),
        ({"loss": [{"type": "fitnet", "weight": 0}]}, "greater than 0"),
        ({"loss": {"type": "kd", "temperature": {"start": 4, "end": 0}}}, "greater than 0"),
        ({"loss": {"type": "kd", "weight": {"start": 0, "end": 0}}}, "leave the term out"),
        ({"loss": [{"type": "kd"}, {"type": "dist"}]}, "weights of 1.4 together"),
        ({"loss": [{"type": "fitnet", "of": 1}]}, "about teacher 1, but there are 1"),
        ({"ensemble": {"type": "weighted", "weights": [1, 2]}}, "2 weights for 1 teachers"),
        ({"ensemble": {"type": "weighted", "weights": [0]}}, "greater than 0"),
        ({"cache_bytes": -1}, "greater than or equal to 0"),
        ({"labels": -0.1}, "greater than or equal to 0"),
        ({"teachers": [], "labels": 0.5}, "labels says how teachers are followed"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        DistilledTraining.model_validate({"epochs": 1, "teachers": [TEACHER], **fields})


def test_said_labels_allow_more_than_shares() -> None:
    fields = {"epochs": 1, "teachers": [TEACHER], "labels": 1.0, "loss": [{"type": "kd"}, {"type": "dist"}]}
    assert DistilledTraining.model_validate(fields).labels == 1.0
