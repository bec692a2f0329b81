"""How much faster integers are in ONNX Runtime: our files against FP32 and against its own quantizers.

    python tests/benchmarks/integer_networks.py resnet18 mobilenet_v2 vit bert --folder DIR

Random weights, one thread, all files of a network in turns in one process; ratios are medians over rounds.
Weights of both sides have 7 bits (reduce_range), with which the fast kernels are exact on every processor.
"onnxruntime" is its quantizer with expert settings: pre-processed, QDQ, unsigned activations per tensor,
signed weights per channel; and quantize_dynamic per channel. Also prints each file's operators and bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
from onnxruntime.quantization import quantize_dynamic as ort_dynamic
from onnxruntime.quantization import quantize_static as ort_static
from onnxruntime.quantization.shape_inference import quant_pre_process

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.data.contract import VaryingSize
from mcomp.measure.census import census
from mcomp.measure.latency import interleaved, latency, speedup
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.onnx.write import write_onnx
from mcomp_stages.methods.quantization.calibrate import calibrated
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.observers.config import MinMax
from mcomp_stages.methods.quantization.scheme import quantizers_for
from mcomp_stages.methods.quantization.training_graph import canonical_graph
from mcomp_stages.methods.quantization.weights.dynamic import (
    Smoothing,
    dynamically_quantized,
    with_stored,
)
from mcomp_stages.methods.quantization.weights.uses import used_weights
from mcomp_stages.models.huggingface import TransformersConfig
from mcomp_stages.models.mobilenet_v2 import MobileNetV2Config
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.models.vit import ViTConfig

Inputs = dict[str, torch.Tensor]
SEVEN = Scheme.model_validate({"weights": {"bits": 7}})
MINILM = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}
LENGTH = 128


@dataclass(frozen=True)
class Network:
    """What is built, its inputs for so many samples, which sizes vary, and the batches that are timed."""

    spec: Any
    inputs: Callable[[int], Inputs]
    batches: tuple[int, ...] = (1,)
    lengths_vary: bool = False

    def example(self) -> Example:
        length = {1: VaryingSize("sequence", 512)}
        varying = dict.fromkeys(self.inputs(2), length) if self.lengths_vary else {}
        return Example(self.inputs(2), varying)


def pictures(number: int) -> Inputs:
    """Return noise of 224 pixels a side."""
    return {"image": torch.randn(number, 3, 224, 224, generator=torch.Generator().manual_seed(number))}


def sentences(number: int) -> Inputs:
    """Return tokens without padding."""
    generator = torch.Generator().manual_seed(number)
    tokens = torch.randint(0, 30522, (number, LENGTH), generator=generator)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


CLASSES = {"in_channels": 3, "num_classes": 1000}
TINY = {"patch": 16, "depth": 12, "width": 192, "heads": 3, "image_size": 224}
NETWORKS: dict[str, Network] = {
    "resnet18": Network(ResNetConfig(depth=18, **CLASSES), pictures, (1, 16)),
    "resnet50": Network(ResNetConfig(depth=50, **CLASSES), pictures, (1,)),
    "mobilenet_v2": Network(MobileNetV2Config(**CLASSES), pictures, (1, 16)),
    "vit": Network(ViTConfig(**TINY, **CLASSES), pictures, (1,)),
    "bert": Network(
        TransformersConfig(architecture=MINILM, normalize=True), sentences, (1,), lengths_vary=True
    ),
}


class Reader(CalibrationDataReader):
    """Calibration samples as onnxruntime reads them."""

    def __init__(self, batches: list[Inputs]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        inputs = next(self.batches, None)
        return None if inputs is None else {name: value.numpy() for name, value in inputs.items()}


def written(model: Model, example: Example, path: Path) -> Path:
    """Write a model's file."""
    write_onnx(served_graph(model, example), example, path, opset=21)
    return path


def static(model: Model, network: Network) -> Model:
    """Return the model with quantizers, ranges by their extremes."""
    example = network.example()
    edited = model.edited(quantizers_for(model.module, example, SEVEN))
    return calibrated(edited, example, [network.inputs(4)], MinMax())


def dynamic(model: Model, network: Network) -> Model:
    """Return the model with weights of 7 bits whose inputs are rounded at run time."""
    captured = canonical_graph(model.module, network.example())
    weights = [each for each in used_weights(captured, model.module) if "convolution" not in each.operators]
    bits = dict.fromkeys((weight.name for weight in weights), 7)
    return with_stored(model, dynamically_quantized(captured, model, weights, bits, Smoothing(())))


def ort_expert(fp32: Path, network: Network, path: Path) -> Path:
    """Write what onnxruntime's static quantizer makes of the FP32 file."""
    ready = path.with_suffix(".ready.onnx")
    quant_pre_process(str(fp32), str(ready), auto_merge=True)
    ort_static(
        str(ready),
        str(path),
        Reader([network.inputs(1) for _ in range(4)]),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return path


def ort_run_time(fp32: Path, path: Path) -> Path:
    """Write what onnxruntime's dynamic quantizer makes of the FP32 file."""
    ort_dynamic(str(fp32), str(path), per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
    return path


def files(name: str, network: Network, folder: Path) -> Mapping[str, Path]:
    """Return the files of a network by what made them."""
    torch.manual_seed(0)
    model, example = Model(network.spec.build().eval(), network.spec), network.example()
    found = {"FP32": written(model, example, folder / f"{name}.onnx")}
    found["static"] = written(static(model, network), example, folder / f"{name}_static.onnx")
    if name == "bert":
        found["dynamic"] = written(dynamic(model, network), example, folder / f"{name}_dynamic.onnx")
        found["onnxruntime dynamic"] = ort_run_time(found["FP32"], folder / f"{name}_ort_dynamic.onnx")
    else:
        found["onnxruntime static"] = ort_expert(found["FP32"], network, folder / f"{name}_ort.onnx")
    return found


def report(name: str, folder: Path, rounds: int) -> None:
    """Print the figures of a network."""
    network = NETWORKS[name]
    found = files(name, network, folder)
    for kind, path in found.items():
        seen = census(path, folder)
        print(f"{name}, {kind}: {path.stat().st_size / 1e6:.1f} MB, {seen.int8} int8, {seen.float} float")
        print(f"    {seen.by_type}")
    sessions = {kind: OnnxSession(path) for kind, path in found.items()}
    for batch in network.batches:
        inputs = {key: value.numpy() for key, value in network.inputs(batch).items()}
        turns = interleaved(sessions, inputs, rounds)
        for kind, times in turns.items():
            ratio = speedup(turns["FP32"], times)
            print(
                f"{name}, batch {batch}, {kind}: {latency(times).median_ms:.1f} ms, {ratio:.2f}x", flush=True
            )


def main() -> None:
    """Print the figures of the networks that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="+", choices=NETWORKS)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in arguments.networks:
        report(name, arguments.folder, arguments.rounds)


if __name__ == "__main__":
    main()
