"""Time a training step with quantizers over one in float, interleaved, and say where the rest goes.

    python tests/benchmarks/qat_step.py --rounds 15

Then the conversion of each into integers, in seconds of the processor: with the structure captured before, as
it is when a training ends, and the first time in a process, when torch.export captures it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.model.graph import CAPTURES, capture, set_training
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp_stages.methods.quantization.calibrate import calibrated, with_moving_ranges
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.learned.assign import with_methods
from mcomp_stages.methods.quantization.learned.config import ActivationMethod
from mcomp_stages.methods.quantization.learned.start import with_first_scales
from mcomp_stages.methods.quantization.scheme import quantizers_for
from mcomp_stages.models.mobilenet_v2 import MobileNetV2Config
from mcomp_stages.models.resnet import ResNetConfig

BATCH, SIDE = 16, 32
NETS: dict[str, ModelConfig] = {
    "ResNet-20, width 32": ResNetConfig(depth=20, width=32, in_channels=3, num_classes=10),
    "MobileNetV2": MobileNetV2Config(stem="small", in_channels=3, num_classes=10),
}
CASES: dict[str, tuple[int, ActivationMethod]] = {"8 bits, minmax": (8, "minmax"), "4 bits, lsq": (4, "lsq")}


def pictures(num: int) -> dict[str, Tensor]:
    return {"image": torch.randn(num, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))}


def in_float(model: Model) -> nn.Module:
    graph = capture(model.copy().module, pictures(2))
    set_training(graph, True)
    return graph


def prepared(model: Model, bits: int, method: ActivationMethod) -> Model:
    """Return a model with calibrated quantizers."""
    scheme = Scheme.model_validate({"weights": {"bits": bits}, "activations": {"bits": bits}})
    edit = with_methods(quantizers_for(model.module, pictures(2), scheme), method, ("image",))
    return calibrated(with_first_scales(model.edited(edit), None), pictures(2), [pictures(BATCH)], None)


def with_quantizers(model: Model, bits: int, method: ActivationMethod) -> nn.Module:
    ready = prepared(model, bits, method)
    return with_moving_ranges(ready, 1000).training_module(pictures(2)).train()


def step(module: nn.Module, optimizer: torch.optim.Optimizer, target: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    functional.cross_entropy(module(**pictures(BATCH)), target).backward()
    optimizer.step()


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(name: str, rounds: int, show: bool) -> None:
    torch.manual_seed(0)
    model = Model(NETS[name].build().eval(), NETS[name])
    modules = {"float": in_float(model)}
    modules |= {case: with_quantizers(model, *asked) for case, asked in CASES.items()}
    target = torch.arange(BATCH) % 10
    optimizers = {case: torch.optim.SGD(module.parameters(), 1e-4, 0.9) for case, module in modules.items()}
    times: dict[str, list[float]] = {case: [] for case in modules}
    for number in range(rounds + 1):
        for case, module in modules.items():
            spent = seconds(lambda module=module, case=case: step(module, optimizers[case], target))
            if number:
                times[case].append(spent)
    for case in CASES:
        ratios = [each / base for each, base in zip(times[case], times["float"], strict=True)]
        print(f"| {name} | {case} | {1000 * median(times['float']):.0f} ms | {median(ratios):.2f} |")
        convert(name, case, model, rounds)
    if show:
        with profile(activities=[ProfilerActivity.CPU]) as found:
            step(modules["4 bits, lsq"], optimizers["4 bits, lsq"], target)
        print(
            found.key_averages().table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=40)
        )


def convert(name: str, case: str, model: Model, rounds: int) -> None:
    """Print how long a model with quantizers takes to become one of integers."""
    bits, method = CASES[case]
    quantized = prepared(model, bits, method)
    CAPTURES.kept.clear()

    def processor_seconds() -> float:
        start = time.process_time()
        quantized.inference_module(pictures(2))
        return time.process_time() - start

    first = processor_seconds()
    again = [processor_seconds() for _ in range(min(rounds, 5))]
    print(f"  conversion of {name}, {case}: {median(again):.2f} s, the first time {first:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="part of the name of a network")
    parser.add_argument("--profile", action="store_true", help="show where a step's time goes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in NETS:
        if options.only in name:
            measure(name, options.rounds, options.profile)


if __name__ == "__main__":
    main()
