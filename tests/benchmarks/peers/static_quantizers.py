"""EfficientNet-Lite0 in integers: ours, and what other quantizers make of the same weights and photographs.

    python recipes/make_photographs.py
    python tests/benchmarks/peers/static_quantizers.py make mcomp onnxruntime --folder DIR
    python tests/benchmarks/peers/static_quantizers.py compare --folder DIR

`make` in an environment that has the peer and mcomp (see requirements.txt): 64 photographs for calibration,
batches of one. A peer that cannot do it leaves its error. `compare` runs what lies in the folder: on how many
test photographs a file says what FP32 says, against ours photograph by photograph (exact sign test), bytes,
operators, and times of all files in turns, in ONNX Runtime at one thread, with exact sums. Weights have 7
bits where a peer can (`reduce_range`, `overflow_fix`): with 8 the fast kernels are right on processors with
VNNI alone. Lines are those of the peer's function here.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import comb
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[3]))

from mcomp.data.contract import Data, DataConfig
from mcomp.measure.census import census
from mcomp.measure.latency import interleaved, latency, speedup
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp.recipe.build import load_recipe
from mcomp.recipe.schema import Compute, Recipe
from mcomp.stage import Context, StageConfig
from mcomp.task import TaskConfig
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.onnx.write import write_onnx
from tests.benchmarks.trained import Silent

RECIPE = Path(__file__).parents[3] / "recipes" / "efficientnet_lite0_int8.yaml"
BATCH = 16


@dataclass(frozen=True)
class Bench:
    """The recipe's network and photographs, and where files are kept."""

    folder: Path

    @cached_property
    def recipe(self) -> Recipe:
        return load_recipe(RECIPE).recipe

    @cached_property
    def data(self) -> Data:
        return cast(DataConfig, self.recipe.data).load()

    @cached_property
    def model(self) -> Model:
        spec = cast(ModelConfig, self.recipe.model).fitted_to(cast(DataConfig, self.recipe.data).facts())
        module = spec.build()
        spec.fill(module, RECIPE.parent / str(spec.checkpoint))
        return Model(module.eval(), spec)

    @property
    def example(self) -> Example:
        return Example(self.data.split("calibration").batch(torch.arange(2)).inputs)

    @cached_property
    def samples(self) -> list[torch.Tensor]:
        """The calibration photographs, one by one."""
        split = self.data.split("calibration")
        return [split.batch(torch.tensor([at])).inputs["image"] for at in range(len(split))]

    @property
    def fp32(self) -> Path:
        path = self.folder / "fp32.onnx"
        if not path.exists():
            self.write(self.model, path)
        return path

    def write(self, model: Model, path: Path) -> None:
        write_onnx(served_graph(model, self.example), self.example, path, opset=21)


def mcomp(bench: Bench, path: Path) -> None:
    """Ours, as the recipe says."""
    context = Context(
        step="benchmark",
        seed=0,
        data=bench.data,
        batch_size=BATCH,
        task=cast(TaskConfig, bench.recipe.task),
        compute=Compute(threads=1),
        folder=bench.folder,
        example=bench.example,
        reporter=Silent(),
        models={},
    )
    result = cast(StageConfig, bench.recipe.stages["static"]).run(bench.model, context).model
    assert result is not None
    bench.write(result, path)


def onnxruntime(bench: Bench, path: Path) -> None:
    """Its static quantizer as its manual advises for x86: pre-processed, U8S8 per channel, reduced range."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = path.with_suffix(".ready.onnx")
    quant_pre_process(str(bench.fp32), str(ready), auto_merge=True)
    quantize_static(
        str(ready),
        str(path),
        reader(bench),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def onnxruntime_defaults(bench: Bench, path: Path) -> None:
    """Its static quantizer without a setting."""
    from onnxruntime.quantization import quantize_static

    quantize_static(str(bench.fp32), str(path), reader(bench))


def reader(bench: Bench) -> Any:
    """Return the samples as onnxruntime and what stands on it read them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(bench.samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {"image": image.numpy()}

    return Reader()


def nncf(bench: Bench, path: Path, **settings: Any) -> None:
    """NNCF on the ONNX file, without a setting."""
    import nncf
    import onnx

    samples = nncf.Dataset(bench.samples, lambda image: {"image": image.numpy()})
    quantized = nncf.quantize(onnx.load(bench.fp32), samples, subset_size=len(bench.samples), **settings)
    onnx.save(quantized, path)


def nncf_expert(bench: Bench, path: Path) -> None:
    """NNCF with ranges of channels, its slower bias correction, and weights of 7 bits."""
    from nncf import QuantizationPreset
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    advanced = AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE)
    preset = QuantizationPreset.MIXED
    nncf(bench, path, preset=preset, fast_bias_correction=False, advanced_parameters=advanced)


def olive(bench: Bench, path: Path) -> None:
    """Olive's pass for static quantization, per channel and with a reduced range."""
    from olive.data.config import DataComponentConfig, DataConfig
    from olive.data.registry import Registry
    from olive.hardware.accelerator import DEFAULT_CPU_ACCELERATOR
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.quantization import OnnxStaticQuantization

    @Registry.register_dataloader()
    def photographs(*_: Any, **__: Any) -> Any:
        return reader(bench)

    loader = DataComponentConfig(type="photographs")
    settings = {
        "data_config": DataConfig(name="photographs", dataloader_config=loader),
        "precision": "int8",
        "activation_type": "uint8",
        "per_channel": True,
        "reduce_range": True,
    }
    quantize = create_pass_from_dict(OnnxStaticQuantization, settings, True, DEFAULT_CPU_ACCELERATOR)
    made = quantize.run(ONNXModelHandler(str(bench.fp32)), str(path.with_suffix("")))
    Path(made.model_path).rename(path)


def torchao(bench: Bench, path: Path) -> None:
    """torchao's pt2e with its quantizer for x86, then torch's exporter."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    example = (bench.example["image"],)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(reduce_range=True))
    batch = {0: torch.export.Dim("batch")}
    captured = torch.export.export(bench.model.module.eval(), example, dynamic_shapes=(batch,)).module()
    prepared = prepare_pt2e(captured, quantizer)
    for image in bench.samples:
        prepared(image)
    to_file(convert_pt2e(prepared), example, batch, path)


def neural_compressor(bench: Bench, path: Path) -> None:
    """Neural Compressor's static quantization of torch models, then torch's exporter."""
    from neural_compressor.torch.export import export
    from neural_compressor.torch.quantization import StaticQuantConfig, convert, prepare

    example = (bench.example["image"],)
    batch = {0: torch.export.Dim("batch")}
    prepared = prepare(export(bench.model.module.eval(), example, (batch,)), StaticQuantConfig())
    for image in bench.samples:
        prepared(image)
    to_file(convert(prepared), example, batch, path)


def to_file(module: Any, example: tuple[torch.Tensor, ...], batch: dict[int, Any], path: Path) -> None:
    """Write an ONNX file as torch's exporter does, with the input named as in ours."""
    torch.onnx.export(
        module,
        example,
        path,
        dynamo=True,
        input_names=["image"],
        dynamic_shapes=(batch,),
        external_data=False,
    )


PEERS: dict[str, Callable[[Bench, Path], None]] = {
    "mcomp": mcomp,
    "onnxruntime": onnxruntime,
    "onnxruntime-defaults": onnxruntime_defaults,
    "nncf": nncf_expert,
    "nncf-defaults": nncf,
    "olive": olive,
    "torchao": torchao,
    "neural-compressor": neural_compressor,
}


def make(bench: Bench, names: list[str]) -> None:
    """Write the files of some peers, with the seconds they took, or the errors that they ended with."""
    bench.fp32, bench.samples  # noqa: B018  (before the clock starts)
    for name in names:
        path, started = bench.folder / f"{name}.onnx", time.perf_counter()
        try:
            PEERS[name](bench, path)
            found: dict[str, Any] = {"seconds": time.perf_counter() - started}
        except Exception as error:  # whatever a peer ends with is the result
            found = {"error": f"{type(error).__name__}: {error}"}
        found["lines"] = len(inspect.getsource(PEERS[name]).splitlines())
        path.with_suffix(".json").write_text(json.dumps(found))
        print(name, found, flush=True)


def choices(bench: Bench, path: Path) -> np.ndarray:
    """Return the class that a file chooses for each test photograph."""
    session, split = OnnxSession(path), bench.data.split("test")
    parts = torch.split(torch.arange(len(split)), BATCH)
    outputs = [session.run({"image": split.batch(part).inputs["image"].numpy()}) for part in parts]
    return np.concatenate(outputs).argmax(1)


def sign_test(left: np.ndarray, right: np.ndarray) -> float:
    """Return the two-sided p of as uneven a split of the photographs on which just one side agrees."""
    more, fewer = sorted((int((left & ~right).sum()), int((right & ~left).sum())), reverse=True)
    tail = sum(comb(more + fewer, count) for count in range(fewer + 1)) / 2 ** (more + fewer)
    return min(1.0, 2 * tail)


def compare(bench: Bench, rounds: int) -> None:
    """Print the table."""
    notes = {name: bench.folder / f"{name}.json" for name in PEERS}
    said = {name: json.loads(note.read_text()) for name, note in notes.items() if note.exists()}
    files = {"fp32": bench.fp32}
    files |= {name: bench.folder / f"{name}.onnx" for name, found in said.items() if "error" not in found}
    expected = choices(bench, bench.fp32)
    same = {name: choices(bench, path) == expected for name, path in files.items()}
    inputs = {"image": bench.samples[0].numpy()}
    turns = interleaved({name: OnnxSession(path) for name, path in files.items()}, inputs, rounds)
    print("| | agrees, % | against ours, p | smaller | int8, float | ms | faster | seconds | lines |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, path in files.items():
        seen, took = census(path, bench.folder), said.get(name, {"seconds": 0, "lines": 0})
        print(
            f"| {name} | {100 * same[name].mean():.1f} | {sign_test(same['mcomp'], same[name]):.3f} "
            f"| {bench.fp32.stat().st_size / path.stat().st_size:.2f} | {seen.int8}, {seen.float} "
            f"| {latency(turns[name]).median_ms:.1f} | {speedup(turns['fp32'], turns[name]):.2f} "
            f"| {took['seconds']:.0f} | {took['lines']} |"
        )
    for name, found in said.items():
        if "error" in found:
            print(f"\n{name} ({found['lines']} lines): {found['error'][:500]}")


def main() -> None:
    """Make files, or compare them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("make", "compare"))
    parser.add_argument("peers", nargs="*", choices=PEERS, default=[])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    bench = Bench(asked.folder)
    if asked.what == "make":
        make(bench, asked.peers)
    else:
        compare(bench, asked.rounds)


if __name__ == "__main__":
    main()
