from __future__ import annotations

import pytest

from mcomp.recipe.schema import Require
from mcomp.require import judge
from mcomp.store.ledger import Latency, Requirement, Served

TIMED = {size: Latency(median_ms=ms, p10_ms=0.1, p90_ms=9.0, rounds=30) for size, ms in ((1, 2.0), (16, 8.0))}
SERVED = Served(
    file="model.onnx",
    runtime="onnxruntime",
    threads=1,
    size_bytes=1000,
    test=0.9,
    latency=TIMED,
    speedup={1: 4.0, 16: 3.0},
    size_ratio=8.0,
    metric_drop=0.01,
    worst_class=(3, 0.05),
)


def only(require: dict[str, object], served: dict[str, Served] | None = None) -> Requirement:
    (judged,) = judge(Require.model_validate(require), served or {"export": SERVED})
    return judged


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("accuracy", 0.9),
        ("accuracy_drop", 0.01),
        ("worst_class_drop", 0.05),
        ("speedup", 4.0),
        ("latency_ms", 2.0),
        ("size_ratio", 8.0),
        ("size_bytes", 1000.0),
    ],
)
def test_a_bound_includes_its_own_value(what: str, value: float) -> None:
    for bound in ({"min": value}, {"max": value}, {"min": value, "max": value}):
        assert only({what: bound}).met
    assert only({what: {"min": value}}).value == value
    assert not only({what: {"min": value * 1.001}}).met
    assert not only({what: {"max": value * 0.999}}).met


@pytest.mark.parametrize(("what", "at_16"), [("speedup", 3.0), ("latency_ms", 8.0)])
def test_times_are_judged_at_their_batch_size(what: str, at_16: float) -> None:
    judged = only({what: {"min": 0, "batch_size": 16}})
    assert (judged.batch_size, judged.value) == (16, at_16)
    assert only({what: {"min": 0}}).batch_size == 1
    assert only({"accuracy": {"min": 0}}).batch_size is None


@pytest.mark.parametrize("what", ["speedup", "latency_ms"])
def test_a_figure_that_is_missing_does_not_meet_a_bound(what: str) -> None:
    judged = only({what: {"min": 0, "batch_size": 3}})
    assert (judged.value, judged.met) == (None, False)
    alone = SERVED.model_copy(update={"metric_drop": None, "size_ratio": None})
    assert not only({"accuracy_drop": {"max": 1.0}}, {"export": alone}).met
    assert not only({"size_ratio": {"max": 1.0}}, {"export": alone}).met


def test_a_drop_may_have_to_be_a_gain() -> None:
    better = SERVED.model_copy(update={"metric_drop": -0.02})
    assert only({"accuracy_drop": {"max": -0.01}}, {"export": better}).met
    assert not only({"accuracy_drop": {"max": -0.03}}, {"export": better}).met


def test_a_bound_is_about_the_last_export_unless_it_names_another() -> None:
    served = {"float": SERVED, "int8": SERVED.model_copy(update={"size_bytes": 300})}
    assert only({"size_bytes": {"max": 500}}, served).stage == "int8"
    assert only({"size_bytes": {"max": 500}}, served).met
    named = only({"size_bytes": {"max": 500, "of": "float"}}, served)
    assert (named.stage, named.value, named.met) == ("float", 1000.0, False)


def test_every_bound_of_a_list_is_judged_in_order() -> None:
    require = Require.model_validate(
        {"speedup": [{"min": 10}, {"min": 2, "batch_size": 16}], "accuracy": {"min": 0.5}}
    )
    judged = judge(require, {"export": SERVED})
    assert [(each.what, each.min, each.met) for each in judged] == [
        ("accuracy", 0.5, True),
        ("speedup", 10, False),
        ("speedup", 2, True),
    ]


def test_nothing_required_is_nothing_judged() -> None:
    assert judge(Require(), {"export": SERVED}) == ()
    assert judge(Require(), {}) == ()
