"""torchao's integers (pt2e, X86InductorQuantizer), served by Inductor, beside the same program in float.

    python tests/benchmarks/peers/torchao_program.py RECIPE --folder DIR

Its result is a program of PyTorch and no ONNX file, so it is compared in its own runtime: the FP32 program is
the recipe's baseline exported by export.torch, both are compiled with frozen weights (which needs a C++
compiler), and timed in turns at batch 1 and one thread. Calibration and test samples are the recipe's.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[3]))

from mcomp.data.contract import DataConfig, Split
from mcomp.data.shortened import load_data
from mcomp.recipe.build import load_recipe
from tests.benchmarks.peers.quantize import lines
from tests.benchmarks.peers.quantizers import ours

ROUNDS, CALLS = 30, 5
Samples = list[dict[str, Tensor]]


def torchao(program: Any, samples: Samples) -> Any:
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(reduce_range=True))
    prepared = prepare_pt2e(program.module(), quantizer)
    for sample in samples:
        prepared(**sample)
    return torch.compile(convert_pt2e(prepared))


def one_by_one(split: Split) -> Samples:
    """Return the inputs of each sample of a split, as a batch of one."""
    inputs = split.batch(torch.arange(len(split))).inputs
    return [{name: value[at : at + 1] for name, value in inputs.items()} for at in range(len(split))]


def milliseconds(model: Any, sample: dict[str, Tensor]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    for _ in range(CALLS):
        model(**sample)
    return (time.perf_counter() - began) / CALLS * 1e3


def main() -> None:
    """Quantize, compile, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="where everything is kept")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch._inductor.config.freezing = True
    _, fp32 = ours(given.recipe, given.folder.resolve() / "store", ["stages.export.type=export.torch"])
    data = load_data(cast(DataConfig, load_recipe(given.recipe).recipe.data))
    samples, test = (one_by_one(data.split(name)) for name in ("calibration", "test"))
    with torch.no_grad():
        program = torch.export.load(fp32)
        began = time.perf_counter()
        quantized = torchao(program, samples)
        quantized(**test[0])
        seconds = time.perf_counter() - began
        reference = torch.compile(program.module())
        agree = [reference(**each).argmax(1).equal(quantized(**each).argmax(1)) for each in test]
        turns = [(milliseconds(reference, test[0]), milliseconds(quantized, test[0])) for _ in range(ROUNDS)]
    ratio = median(float_ms / integer_ms for float_ms, integer_ms in turns)
    print(
        f"agreement {sum(agree) / len(agree):.1%}, {median(ms for _, ms in turns):.2f} ms, {ratio:.2f} times"
    )
    print(f"as fast as its FP32 program; {seconds:.0f} s with compilation, {lines(torchao)} lines")


if __name__ == "__main__":
    main()
