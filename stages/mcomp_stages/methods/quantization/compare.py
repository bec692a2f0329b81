"""The proof that the converted graph computes what was trained, site by site on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.binary.around import SignInput
from mcomp_stages.methods.quantization.fake_quantize import ActivationQuantizer
from mcomp_stages.methods.quantization.operators import quantize_linear
from mcomp_stages.methods.quantization.repair import left_in_float, repair_of
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

# Sums in another order flip a rounding now and then; what is wrong flips many, or by more than one step.
SMALLEST_AGREEMENT = 0.999
# Of 16 bits the last one is below the noise of sums in float32, and counts as equal.
NOISE_STEPS = {torch.uint16: 1, torch.int16: 1}


@dataclass(frozen=True)
class Comparison:
    """The site that agrees least, over all sites; `output_error` is relative to the largest output."""

    num_sites: int
    agreement: float
    site: str
    output_error: float


class Replay(Interpreter):
    """Run a converted graph; behind each site go on with the trained value, so that errors do not add up.

    A bias is held against its exact value, from which it may differ by half of its step, and then replaced
    by it: where few products are summed, its rounding alone flips more than 0.1 % of the values.
    """

    def __init__(self, converted: GraphModule, trained: Mapping[str, Tensor]) -> None:
        super().__init__(converted)
        self.trained = trained
        self.agreement: dict[str, float] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if "exact" in n.meta:
            return self.exact_bias(n, value)
        site: str | None = n.meta.get("site")
        if n.op == "call_module":
            return value if site is None or site not in self.trained else self.same_signs(site, value)
        return value if site is None else self.expected(n, site, value)

    def same_signs(self, site: str, value: Tensor) -> Tensor:
        agreement = (value == self.trained[site]).double().mean().item()
        if agreement < SMALLEST_AGREEMENT:
            what = f"converted, {1 - agreement:.2%} of its signs differ from the trained ones"
            raise StageError(what, module=site)
        self.agreement[site] = agreement
        return self.trained[site]

    def exact_bias(self, node: Node, value: Tensor) -> Tensor:
        exact: Tensor = node.meta["exact"]
        scale: Tensor = self.env[node.args[1]]  # type: ignore[index]
        # Beside half a step, the rounding of a float32.
        if ((value - exact).abs() > 0.5 * scale + 1e-6 * exact.abs()).any():
            layer = str(node.args[0].target).rpartition(".")[0]  # type: ignore[union-attr]
            what = "converted to integers, the bias differs by more than half a step"
            raise StageError(f"{what}{left_in_float([layer])}", module=layer)
        return exact

    def expected(self, node: Node, site: str, value: Tensor) -> Tensor:
        quantized = node if node.target is torch.ops.mcomp.quantize_linear.default else node.args[0]
        scale, zero_point = (self.env[argument] for argument in quantized.args[1:3])  # type: ignore[index, union-attr]
        expected: Tensor = quantize_linear(self.trained[site], scale, zero_point, 0)
        steps = (value.int() - expected.int()).abs()
        noise = NOISE_STEPS.get(zero_point.dtype, 0)
        agreement = (steps <= noise).double().mean().item()
        if steps.max() > 1 + noise or agreement < SMALLEST_AGREEMENT:
            raise StageError(
                f"converted to integers, {1 - agreement:.2%} of its values differ from the trained ones, "
                f"by up to {steps.max().item()} steps{repair_of(site)}",
                module=site,
            )
        self.agreement[site] = agreement
        return expected


def compare(trained: QuantizedGraph, converted: GraphModule, inputs: Mapping[str, Tensor]) -> Comparison:
    """Compare the graph that was trained with the integers it became.

    Raises StageError naming the first site at which fewer than 99.9 % of the values are equal or one differs
    by more than one step, or the output if it is off by more than 0.1 % of its largest value.
    """
    with torch.no_grad():
        values, expected = trained_values(trained, inputs)
        replay = Replay(converted, values)
        output = replay.run(*in_order(converted, inputs))
    error = ((output - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()
    if not error <= 1e-3:
        raise StageError(f"converted to integers, the output differs by {error:.2%} of its largest value")
    if not replay.agreement:  # weights alone
        return Comparison(0, 1.0, "", error)
    worst = min(replay.agreement, key=lambda site: replay.agreement[site])
    return Comparison(len(replay.agreement), replay.agreement[worst], worst, error)


def require_equal(model: Model, example: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Comparison:
    """Compare a model with quantizers with what will be served. Raises StageError as `compare` does."""
    trained, converted = model.training_module(example), model.inference_module(example)
    assert isinstance(trained, QuantizedGraph)
    assert isinstance(converted, GraphModule)
    return compare(trained, converted, inputs)


def trained_values(trained: QuantizedGraph, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Return what each activation quantizer gives, by site, and the output, in inference mode."""
    trained.train(False)
    values: dict[str, Tensor] = {}
    hooks = [
        quantizer.register_forward_hook(partial(keep, values, site))
        for site, quantizer in trained.by_site().items()
        if isinstance(quantizer, ActivationQuantizer | SignInput)
    ]
    output: Tensor = trained(**inputs)
    for hook in hooks:
        hook.remove()
    return values, output


def keep(values: dict[str, Tensor], site: str, module: nn.Module, args: Any, output: Tensor) -> None:
    values[site] = output


def in_order(graph_module: GraphModule, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Return named inputs in the order of a graph's placeholders."""
    return [inputs[str(node.target)] for node in graph_module.graph.find_nodes(op="placeholder")]
