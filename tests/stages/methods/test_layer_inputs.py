"""What layers see: rows that times the weight give the outputs, steps in order, and errors with a name."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp_stages.methods.layer_inputs import (
    Layer,
    input_rows,
    layer_hessians,
    layers_of,
    run_until_seen,
    steps_of,
)


class Attention(nn.Module):
    """Three projections of one input, then one of what they give, then a head."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))
        self.out = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.query(x) * self.key(x) + self.value(input=x)
        result: Tensor = self.head(self.out(mixed))
        return result


def outputs_by_rows(layer: Layer, x: Tensor) -> Tensor:
    """Return the outputs (positions, outputs) as products of the input rows and the weights of each group."""
    rows = input_rows(layer, x)
    weights = layer.weight.flatten(1).unflatten(0, (len(rows), -1))  # type: ignore[no-untyped-call]
    products = torch.cat([part @ weight.mT for part, weight in zip(rows, weights, strict=True)], dim=1)
    return products + layer.bias


@settings(deadline=None, max_examples=40)
@given(
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    padding=st.sampled_from([0, 1, "valid", "same"]),
    mode=st.sampled_from(["zeros", "reflect", "circular"]),
    flat=st.booleans(),
)
def test_rows_times_weights_are_the_outputs_of_a_convolution(
    groups: int, kernel: int, stride: int, dilation: int, padding: int | str, mode: str, flat: bool
) -> None:
    kind: type[nn.Conv1d | nn.Conv2d] = nn.Conv1d if flat else nn.Conv2d
    if padding == "same":  # torch warns of even kernels and refuses strides
        kernel, stride = kernel | 1, 1
    layer = kind(4, 8, kernel, stride, padding, dilation, groups=groups, padding_mode=mode)
    x = torch.randn(2, 4, 7) if flat else torch.randn(2, 4, 7, 6)
    expected = layer(x).flatten(2).permute(0, 2, 1).flatten(0, 1)
    torch.testing.assert_close(outputs_by_rows(layer, x), expected)


def test_rows_times_weights_are_the_outputs_of_a_linear() -> None:
    layer, x = nn.Linear(5, 3), torch.randn(2, 4, 5)
    torch.testing.assert_close(outputs_by_rows(layer, x), layer(x).flatten(0, 1))


def test_of_a_large_image_some_positions_are_taken_from_every_column() -> None:
    x = torch.arange(64.0).expand(1, 1, 64, 64)
    rows = input_rows(nn.Conv2d(1, 1, 1), x)
    assert 200 < rows.shape[1] <= 256
    assert len(rows.unique()) == 64


def test_layers_that_read_one_tensor_are_one_step() -> None:
    module = Attention()
    steps = steps_of(module, {"x": torch.randn(2, 4)}, list(layers_of(module)))
    assert steps == [("query", "key", "value"), ("out",), ("head",)]


def test_the_run_ends_behind_the_last_layer_that_is_asked_for() -> None:
    module, counts = Attention(), {"out": 0, "head": 0}
    module.head.register_forward_hook(lambda *_: counts.update(head=counts["head"] + 1))
    batches = [{"x": torch.randn(2, 4)}] * 3
    run_until_seen(module, batches, {"out": lambda x: counts.update(out=counts["out"] + 1)})
    assert counts == {"out": 3, "head": 1}  # the first run finds out where it may end


def test_a_layer_used_twice_sees_both_inputs() -> None:
    shared = nn.Linear(3, 3)
    module, x = nn.Sequential(shared, nn.ReLU(), shared), torch.randn(8, 3)
    both = torch.cat([x, shared(x).relu()]).double()
    (hessian,) = layer_hessians(module, [{"input": x}], ["0"])["0"]
    torch.testing.assert_close(hessian, 2 / 16 * both.mT @ both, rtol=1e-5, atol=1e-6)


def test_each_group_of_a_convolution_has_its_hessian() -> None:
    layer, x = nn.Conv2d(4, 4, 1, groups=2), torch.randn(3, 4, 5, 5)
    hessians = layer_hessians(nn.Sequential(layer), [{"input": x}], ["0"])["0"]
    for group, hessian in enumerate(hessians):
        rows = x[:, 2 * group : 2 * group + 2].permute(0, 2, 3, 1).reshape(-1, 2).double()
        torch.testing.assert_close(hessian, 2 / 75 * rows.mT @ rows, rtol=1e-5, atol=1e-6)


def test_the_module_is_left_as_it_was() -> None:
    module = Attention().train()
    module.out.eval()
    layer_hessians(module, [{"x": torch.randn(2, 4)}], ["out"])
    assert module.training
    assert not module.out.training
    assert not module.out._forward_pre_hooks


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((2, 4), torch.nan), "out: its inputs on the calibration samples are not finite"),
        (torch.ones(2, 4), "out: its inputs are the same on all calibration samples"),
    ],
)
def test_a_layer_whose_inputs_say_nothing_is_named(x: Tensor, message: str) -> None:
    with pytest.raises(StageError, match=message):
        layer_hessians(Attention(), [{"x": x}], ["out"])


def test_a_layer_that_never_runs_is_named() -> None:
    with pytest.raises(StageError, match="unused: it never ran on the calibration samples; keep the layer"):
        layer_hessians(Attention(), [{"x": torch.randn(2, 4)}], ["unused"])
