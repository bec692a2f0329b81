"""Which runtimes are faster for zeros: a linear layer of MiniLM's feed-forward at one thread.

    python tests/benchmarks/sparse_kernels.py --rounds 15

The masks are those of `prune.unstructured`, single weights or blocks. torch multiplies with the sparse
layouts that it has on a processor (CSR, BSR); ONNX Runtime gets a file with the zeros in it, OpenVINO too,
once as it comes and once with its switch for sparse weights on. Sides take turns, in processor time; the
ratio is the median over the rounds of the dense time of the same runtime over the side's, in the same round.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp_stages.methods.lowrank.gain import sequence_file
from mcomp_stages.methods.sparsity.masks import Selector

INPUTS, OUTPUTS = 384, 1536
SHARES = (0.9, 0.95)
BLOCKS = (4, 8, 16)
Side = Callable[[], object]


def masked(weight_OI: Tensor, share: float, block: int = 1) -> Tensor:
    """Return a weight with the zeros that `prune.unstructured` would choose."""
    selector = Selector(
        {"weight": weight_OI.shape}, unit="weight" if block == 1 else "block", block=(block, block)
    )
    return weight_OI * selector.masks({"weight": weight_OI}, {}, share)["weight"]


def torch_sides(weight_OI: Tensor, x_NI: Tensor, share: float) -> dict[str, Side]:
    """Return the dense product, and the sparse ones by layout."""
    x_IN = x_NI.T.contiguous()
    csr = masked(weight_OI, share).to_sparse_csr()
    sides: dict[str, Side] = {
        "torch, dense": lambda: torch.nn.functional.linear(x_NI, weight_OI),
        "torch, weights (CSR)": lambda: csr @ x_IN,
    }
    for size in BLOCKS:
        bsr = masked(weight_OI, share, size).to_sparse_bsr((size, size))
        sides[f"torch, blocks of {size}x{size} (BSR)"] = lambda bsr=bsr: bsr @ x_IN
    return sides


def file_of(weight_OI: Tensor, x_NI: Tensor, path: Path) -> Path:
    """Write a file of one linear."""
    layer = torch.nn.Linear(INPUTS, OUTPUTS, bias=False)
    layer.weight.data = weight_OI
    onnx.save_model(sequence_file([layer], x_NI.shape), path)
    return path


def served(path: Path, x_NI: Tensor) -> Side:
    """Return a call of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {"x0": x_NI.numpy()}
    return lambda: session.run(None, feed)


def compiled(path: Path, x_NI: Tensor, settings: Mapping[str, object]) -> Side:
    """Return a call of OpenVINO."""
    config = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", **settings}
    request = openvino.Core().compile_model(path, "CPU", config).create_infer_request()
    feed = {0: x_NI.numpy()}
    return lambda: request.infer(feed)


def sides_of(weight_OI: Tensor, x_NI: Tensor, share: float, folder: Path) -> dict[str, Side]:
    """Return everything that takes turns."""
    whole = file_of(weight_OI, x_NI, folder / "whole.onnx")
    zeros = file_of(masked(weight_OI, share), x_NI, folder / "zeros.onnx")
    switch = {"CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE": 0.5}
    return {
        **torch_sides(weight_OI, x_NI, share),
        "ONNX Runtime, dense": served(whole, x_NI),
        "ONNX Runtime, zeros": served(zeros, x_NI),
        "OpenVINO, dense": compiled(whole, x_NI, {}),
        "OpenVINO, zeros": compiled(zeros, x_NI, {}),
        "OpenVINO, zeros, its switch on": compiled(zeros, x_NI, switch),
    }


def times(sides: Mapping[str, Side], rounds: int, calls: int) -> dict[str, list[float]]:
    """Return the processor time of so many calls of each side, in turns; the first round does not count."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            start = time.process_time()
            for _ in range(calls):
                side()
            if number:
                taken[name].append(time.process_time() - start)
    return taken


def ratio(taken: Mapping[str, list[float]], name: str) -> float:
    """Return how many times faster a side is than the dense one of its runtime."""
    dense = taken[f"{name.partition(',')[0]}, dense"]
    return median(np.divide(dense, taken[name]).tolist())


def main() -> None:
    """Print one line for each number of tokens, share and side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    warnings.filterwarnings("ignore", message="Sparse (CSR|BSR) tensor support is in beta")
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    weight_OI = torch.randn(OUTPUTS, INPUTS, generator=generator)
    for num_tokens in (4, 128):
        x_NI = torch.randn(num_tokens, INPUTS, generator=generator)
        for share in SHARES:
            with tempfile.TemporaryDirectory() as folder:
                taken = times(sides_of(weight_OI, x_NI, share, Path(folder)), rounds, 1280 // num_tokens)
            for name in taken:
                if not name.endswith("dense"):
                    print(f"{num_tokens:4d} tokens, {share:.0%} zeros: {name}: {ratio(taken, name):.2f}")


if __name__ == "__main__":
    main()
