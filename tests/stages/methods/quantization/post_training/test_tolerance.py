"""Which layers are given back, and when there are none left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from mcomp.errors import StageError
from mcomp.measure.accuracy import Evaluation
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.post_training.config import Tolerance
from mcomp_stages.methods.quantization.post_training.tolerance import Search, candidates, with_given_back
from mcomp_stages.methods.quantization.scheme import quantizers_for
from mcomp_stages.methods.quantization.sensitivity import quantized_units, quantizers_of
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph
from tests.stages.methods.quantization.nets import float_model, pictures, quantized_model

EXAMPLE = pictures(2)
LAYERS = ("stem", "conv", "shortcut", "fc")
LOSSES = {"stem": 0.1, "conv": 0.4, "shortcut": 0.3, "fc": 0.2}


class Made:
    """A search whose metrics and losses are made up: the metric grows with the layers that are given back."""

    def __init__(self, metrics: list[float], *, higher: bool = True, **tolerance: object) -> None:
        self.metrics, self.tried = metrics, list[tuple[str, ...]]()
        self.quantized = quantized_model(float_model())
        self.search = Search(Tolerance.model_validate(tolerance), self.quality, higher, EXAMPLE, self.figure)
        self.given: tuple[str, ...] = ()

    def quality(self, module: nn.Module) -> Evaluation:
        in_float = not isinstance(module, QuantizedGraph)
        return Evaluation(self.metrics[0] if in_float else self.metrics[1 + len(self.given)], 0.0)

    def figure(self, label: str, measure: Callable[[], float]) -> float:
        kind, _, number = label.partition("-")
        return list(LOSSES.values())[int(number)] if kind == "sensitivity" else measure()

    def anew(self, scheme: Scheme) -> Model:
        self.given = tuple(str(each.modules) for each in scheme.overrides)
        self.tried.append(self.given)
        return self.quantized

    def found(self) -> tuple[str, ...]:
        return self.search.within(Scheme(), float_model(), self.quantized, self.anew).layers


def test_nothing_is_given_back_where_nothing_is_lost() -> None:
    made = Made([0.9, 0.9, 1.0], drop=0.0)
    assert made.found() == ()
    assert made.tried == []


def test_the_costliest_layers_come_first_until_the_bound_holds() -> None:
    made = Made([0.9, 0.5, 0.6, 0.895, 0.9, 0.9], drop=0.01)
    assert made.found() == ("conv", "shortcut")
    assert made.tried == [("conv",), ("conv", "shortcut")]


def test_a_metric_that_is_better_when_lower_is_bounded_from_above() -> None:
    assert Made([0.1, 0.5, 0.105, 0.1], higher=False, drop=0.01).found() == ("conv",)


def test_a_metric_that_is_no_number_is_not_within_the_bound() -> None:
    assert Made([0.9, float("nan"), 0.9], drop=0.01).found() == ("conv",)


def test_a_tolerance_that_cannot_be_met_is_an_error_that_says_how_near_it_came() -> None:
    made = Made([0.9, 0.5, 0.6, 0.7, 0.65], drop=0.01)
    with pytest.raises(
        StageError,
        match=r"0\.9000 in float.*0\.01 worse.*none to 3 layers kept in float it came"
        r" to 0\.7000; raise tolerance\.drop",
    ):
        made.found()
    assert made.tried[-1] == ("conv", "shortcut", "fc")  # one layer stays in integers


def test_layers_that_have_the_bits_already_are_not_widened() -> None:
    with pytest.raises(StageError, match=r"none to 0 layers given 8 bits it came to 0\.5000"):
        Made([0.9, 0.5], drop=0.01, fallback=8).found()
    assert Made([0.9, 0.5, 0.9], drop=0.01, fallback=16).found() == ("conv",)


def test_the_scheme_that_is_found_says_what_was_given_back() -> None:
    model = float_model()
    for fallback, widths in (("float", [4, 4, 4]), (8, [8, 4, 4, 4]), (16, [8, 4, 4, 4])):
        few = Scheme.model_validate({"weights": {"bits": 4}, "activations": {"bits": 4}})
        edit = quantizers_for(model.module, EXAMPLE, with_given_back(few, ("stem",), fallback))
        assert [site.bits for site in edit.weights.values()] == widths
        image = edit.activations.get("#image")
        assert (image and image.bits) == (None if fallback == "float" else fallback)


def test_only_units_with_layers_can_be_given_back() -> None:
    model = quantized_model(float_model())
    graph = model.training_module(EXAMPLE)
    assert isinstance(graph, QuantizedGraph)
    units = quantized_units(model, graph)
    assert {unit.name for unit in candidates(model, units, "float")} == set(LAYERS)
    assert len(units) > len(LAYERS)
    assert candidates(model, units, 8) == []
    assert quantizers_of(model).weights.keys() == {f"{layer}.weight" for layer in LAYERS}
