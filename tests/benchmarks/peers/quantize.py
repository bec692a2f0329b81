"""Quantize one FP32 ONNX file with one peer, in a process of its own.

    python tests/benchmarks/peers/quantize.py PEER FP32.onnx SAMPLES.npz OUT.onnx

Each function below is what a user of that peer writes, so its lines are counted; it takes the path of the
file, the calibration samples as what a session is fed with, one by one, and the path of the result. Prints
one JSON object: the wall-clock seconds and the lines.
"""

from __future__ import annotations

import inspect
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Feeds = list[dict[str, Any]]


def onnxruntime_defaults(fp32: Path, samples: Feeds, out: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(samples)

        def get_next(self) -> Any:
            return next(self.left, None)

    quantize_static(fp32, out, Reader())


def onnxruntime_expert(fp32: Path, samples: Feeds, out: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(samples)

        def get_next(self) -> Any:
            return next(self.left, None)

    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(fp32, prepared)
    quantize_static(
        prepared,
        out,
        Reader(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,  # of weights: this processor adds pairs of products in 16 bits
    )


def nncf(fp32: Path, samples: Feeds, out: Path) -> None:
    import nncf
    import onnx

    dataset = nncf.Dataset(samples)
    quantized = nncf.quantize(onnx.load(fp32), dataset, subset_size=len(samples))
    onnx.save(quantized, out)


def nncf_accurate(fp32: Path, samples: Feeds, out: Path) -> None:
    import nncf
    import onnx

    dataset = nncf.Dataset(samples)
    quantized = nncf.quantize(
        onnx.load(fp32),
        dataset,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(samples),
        fast_bias_correction=False,
    )
    onnx.save(quantized, out)


def olive(fp32: Path, samples: Feeds, out: Path) -> None:
    import shutil

    from olive.data.registry import Registry
    from olive.workflows import run

    class Samples:
        def __len__(self) -> int:
            return len(samples)

        def __getitem__(self, number: int) -> Any:
            return {name: value[0] for name, value in samples[number].items()}, 0

    @Registry.register_dataset()
    def calibration_samples(data_dir: Any = None, **kwargs: Any) -> Any:
        return Samples()

    folder = out.with_suffix(".olive")
    data = {
        "name": "samples",
        "type": "DataContainer",
        "load_dataset_config": {"type": "calibration_samples"},
    }
    run(
        {
            "input_model": {"type": "OnnxModel", "model_path": str(fp32)},
            "data_configs": [data],
            "passes": {"static": {"type": "OnnxStaticQuantization", "data_config": "samples"}},
            "output_dir": str(folder),
        }
    )
    shutil.copy(next(folder.rglob("*.onnx")), out)


def neural_compressor(fp32: Path, samples: Feeds, out: Path) -> None:
    from neural_compressor import PostTrainingQuantConfig, quantization
    from neural_compressor.data import DataLoader

    class Samples:
        def __len__(self) -> int:
            return len(samples)

        def __getitem__(self, number: int) -> Any:
            return next(iter(samples[number].values()))[0], 0

    loader = DataLoader("onnxrt_qlinearops", Samples(), batch_size=1)
    config = PostTrainingQuantConfig(calibration_sampling_size=[len(samples)])
    quantization.fit(str(fp32), config, calib_dataloader=loader).save(str(out))


PEERS: dict[str, Callable[[Path, Feeds, Path], None]] = {
    "onnxruntime, defaults": onnxruntime_defaults,
    "onnxruntime, expert": onnxruntime_expert,
    "NNCF": nncf,
    "NNCF, accurate biases": nncf_accurate,
    "Olive": olive,
    "neural-compressor": neural_compressor,
}


def lines(peer: Callable[..., None]) -> int:
    """Return how many lines a user writes."""
    _, *body = inspect.getsource(peer).splitlines()
    return sum(bool(line.strip()) for line in body)


def main() -> None:
    """Quantize, and say what it took."""
    import numpy as np

    name, fp32, samples, out = sys.argv[1:]
    with np.load(samples) as arrays:
        held = dict(arrays)
    number = len(next(iter(held.values())))
    feeds = [{each: value[at : at + 1] for each, value in held.items()} for at in range(number)]
    began = time.perf_counter()
    PEERS[name](Path(fp32), feeds, Path(out))
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "lines": lines(PEERS[name])}))


if __name__ == "__main__":
    main()
