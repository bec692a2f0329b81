"""The graph that reads codes computes what the module with its rounded weights computes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from mcomp.model.model import Model
from mcomp_stages.methods.quantization.dynamic import dynamic_quantize_linear, matmul_integer
from mcomp_stages.methods.quantization.weights.record import StoredWeight
from tests.stages.methods.quantization.weights.nets import WEIGHTS, reader, record, stored_model, tokens


def records_of(model: Model, **fields: object) -> dict[str, StoredWeight]:
    return {name: record(tuple(model.module.get_parameter(name).shape), **fields) for name in WEIGHTS}


def calls(graph_module: GraphModule) -> Counter[str]:
    return Counter(
        str(node.target) for node in graph_module.graph.nodes if str(node.target).startswith("mcomp")
    )


def parameters_of(graph_module: GraphModule) -> set[str]:
    return {name for name, _ in graph_module.named_parameters(remove_duplicate=False)}


@pytest.mark.parametrize("unpack", ["load", "product"])
@pytest.mark.parametrize(("bits", "symmetric"), [(4, False), (2, True), (8, False)])
def test_packed_weights_give_the_outputs_of_the_rounded_ones(unpack: str, bits: int, symmetric: bool) -> None:
    model = reader()
    fields = {"bits": bits, "group_size": 16, "symmetric": symmetric}
    records = records_of(model, **fields)
    for name in ("query.weight", "key.weight", "value.weight"):
        records[name] = record((20, 20), unpack=unpack, **fields)  # type: ignore[arg-type]
    stored = stored_model(model, records)
    served = stored.inference_module(tokens())
    assert isinstance(served, GraphModule)
    torch.testing.assert_close(served(**tokens(3)), stored.module(**tokens(3)))
    assert calls(served)["mcomp.matmul_nbits.default"] == (3 if unpack == "product" else 0)


def test_weights_that_are_packed_are_not_in_the_graph_in_float() -> None:
    model = reader()
    served = stored_model(model, records_of(model, bits=3)).inference_module(tokens())
    assert isinstance(served, GraphModule)
    assert parameters_of(served) == {"query.bias", "value.bias", "norm.weight", "norm.bias", "conv.bias"}


def test_an_embedding_looks_up_packed_rows() -> None:
    model = reader()
    served = stored_model(model, {"embed.weight": record((30, 20), 4)}).inference_module(tokens())
    assert isinstance(served, GraphModule)
    lookups = served.graph.find_nodes(op="call_function", target=torch.ops.aten.embedding.default)
    tables = [served.get_buffer(str(node.args[0].target)) for node in lookups]  # type: ignore[union-attr]
    assert [tuple(table.shape) for table in tables] == [(30, 10), (30, 1)]


@pytest.mark.parametrize("unpack", ["load", "product", "integers"])
def test_scaled_inputs_give_the_same_outputs(unpack: str) -> None:
    model, gain = reader(), torch.linspace(0.5, 2, 20)
    bits = 8 if unpack == "integers" else 4
    kept = record((20, 20), bits, None if bits == 8 else 16, unpack=unpack, scaled_inputs=True)
    stored = stored_model(model, {"query.weight": kept}, {"query.weight": gain})
    served = stored.inference_module(tokens())
    tolerance = {"rtol": 0.05, "atol": 0.05} if unpack == "integers" else {}
    torch.testing.assert_close(served(**tokens()), stored.module(**tokens()), **tolerance)


def test_layers_that_read_one_input_round_it_once() -> None:
    model = reader()
    records = {name: record((20, 20), 8, unpack="integers") for name in WEIGHTS[1:4]}
    served = stored_model(model, records).inference_module(tokens())
    assert isinstance(served, GraphModule)
    assert calls(served) == {
        "mcomp.dynamic_quantize_linear.default": 1,
        "mcomp.matmul_integer.default": 3,
    }


def test_layers_whose_inputs_are_scaled_alike_scale_and_round_them_once() -> None:
    model, gain = reader(), torch.linspace(0.5, 2, 20)
    records = {name: record((20, 20), 8, unpack="integers", scaled_inputs=True) for name in WEIGHTS[1:4]}
    served = stored_model(
        model, records, {WEIGHTS[1]: gain, WEIGHTS[2]: gain.clone(), WEIGHTS[3]: gain.flip(0)}
    ).inference_module(tokens())
    assert isinstance(served, GraphModule)
    assert calls(served)["mcomp.dynamic_quantize_linear.default"] == 2


def slow_integer_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute a linear in integers, number by number, by the definition of the ONNX operators."""
    low, high = min(0.0, x.min().item()), max(0.0, x.max().item())
    scale = (high - low) / 255
    zero = round(-low / scale)
    steps = weight.abs().amax(1) / 63  # these weights reach further up than down, or the grid would end at 64
    result = torch.empty(len(x), len(weight))
    for row, inputs in enumerate(x.tolist()):
        codes = [min(255, max(0, round(value / scale) + zero)) - zero for value in inputs]
        for column, weights in enumerate(weight.tolist()):
            step = steps[column].item()
            total = sum(code * round(value / step) for code, value in zip(codes, weights, strict=True))
            result[row, column] = total * scale * step + bias[column].item()
    return result


def test_a_linear_in_integers_is_the_sum_of_products_of_integers() -> None:
    torch.manual_seed(2)
    linear = nn.Linear(12, 5)
    with torch.no_grad():
        linear.weight[:, 0] = linear.weight.abs().amax(1) * 1.5
    x = torch.randn(4, 12)
    kept = {"0.weight": record((5, 12), 7, unpack="integers")}
    stored = stored_model(Model(nn.Sequential(linear).eval(), reader().spec), kept)
    served = stored.inference_module({"input": x})
    expected = slow_integer_linear(x, linear.weight, linear.bias)
    torch.testing.assert_close(served(input=x), expected, rtol=2e-3, atol=2e-3)


def test_integers_of_a_range_hold_zero_and_both_ends() -> None:
    integers, scale, zero = dynamic_quantize_linear(torch.tensor([-1.0, 0.0, 3.0]))
    torch.testing.assert_close(
        (integers.float() - zero) * scale, torch.tensor([-1.0, 0.0, 3.0]), atol=0.01, rtol=0
    )


def test_an_input_of_zeros_is_zeros() -> None:
    integers, scale, zero = dynamic_quantize_linear(torch.zeros(3))
    assert scale == 1
    assert not (integers.float() - zero).any()


def test_long_sums_of_integers_are_exact() -> None:
    integers = torch.full((1, 5000), 255, dtype=torch.uint8)
    weight = torch.full((5000, 1), 127, dtype=torch.int8)
    zero = torch.zeros((), dtype=torch.uint8)
    assert matmul_integer(integers, weight, zero).item() == 255 * 127 * 5000
