"""Static KL calibration against onnxruntime's Entropy calibrator: time, memory, accuracy.

    python tests/benchmarks/calibration_cost.py --folder /tmp/calibration_cost

ResNet-56 of width 16, trained for a few epochs on 1,000 images of MNIST, calibrated on 128 of them in batches
of 64. Each calibration runs in a process of its own with one thread; the peaks are those of the whole
processes, libraries included. The accuracy is that of both files in ONNX Runtime on the same 1,000 test
images. onnxruntime's quantizer has its expert settings: U8S8, weights per channel.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

SAMPLES, BATCH, TESTED, EPOCHS = 128, 64, 1000, 4


def peak_mb() -> float:
    """Return the largest memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def calibrate_mcomp(folder: Path) -> dict[str, float]:
    """Calibrate with `quantize.static`'s own steps; capturing the graph counts."""
    import torch

    from mcomp.model.checkpoint import load_model
    from mcomp_stages.methods.quantization.config import Scheme
    from mcomp_stages.methods.quantization.observers.config import KL
    from mcomp_stages.methods.quantization.post_training.pipeline import PostTraining

    torch.set_num_threads(1)
    image = torch.from_numpy(np.load(folder / "images.npy"))
    model, before = load_model(folder / "model"), peak_mb()
    batches = [{"image": each} for each in torch.split(image, BATCH)]
    start = time.perf_counter()
    PostTraining({"image": image[:2]}, batches, KL(), "extremes").quantized(model, Scheme())
    return {"seconds": time.perf_counter() - start, "before_mb": before, "peak_mb": peak_mb()}


class Reader:
    """Gives onnxruntime the calibration images, batch by batch."""

    def __init__(self, images: np.ndarray) -> None:
        self.batches = iter([images[start : start + BATCH] for start in range(0, len(images), BATCH)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


def calibrate_onnxruntime(folder: Path) -> dict[str, float]:
    """Calibrate with the Entropy calibrator, on the operators that onnxruntime's quantizer calibrates."""
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    one_thread()
    images, before = np.load(folder / "images.npy"), peak_mb()
    start = time.perf_counter()
    calibrator = create_calibrator(
        folder / "float.onnx",
        ["Conv", "Relu", "Add", "Gemm", "GlobalAveragePool"],
        str(folder / "augmented.onnx"),
        CalibrationMethod.Entropy,
    )
    calibrator.collect_data(Reader(images))
    calibrator.compute_data()
    assert onnxruntime.__version__
    return {"seconds": time.perf_counter() - start, "before_mb": before, "peak_mb": peak_mb()}


def one_thread() -> None:
    """Let sessions that onnxruntime makes for itself have one thread, as those of the other side."""
    import onnxruntime

    make = onnxruntime.InferenceSession

    def session(path: Any, options: Any = None, **named: Any) -> Any:
        options = options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return make(path, sess_options=options, **{k: v for k, v in named.items() if k != "sess_options"})

    onnxruntime.InferenceSession = session


SIDES = {"mcomp": calibrate_mcomp, "onnxruntime": calibrate_onnxruntime}


def in_a_process(side: str, folder: Path) -> dict[str, float]:
    """Run one calibration in a fresh process."""
    command = [sys.executable, __file__, "--folder", str(folder), "--side", side]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def prepare(folder: Path, image_size: int) -> Path:
    """Train the network, export it, and keep the calibration images. Return the folder of this size."""
    import torch

    from mcomp.model.checkpoint import save_model
    from mcomp_stages.export.onnx import ExportOnnx
    from tests.benchmarks.trained import context_for, mnist, trained_resnet

    torch.set_num_threads(1)
    model = trained_resnet(folder, mnist(), 0, depth=56, width=16, epochs=EPOCHS)
    place = folder / f"at{image_size}"
    if not (place / "float.onnx").exists():
        place.mkdir(exist_ok=True)
        data = mnist(image_size)
        images = data.split("calibration").batch(torch.arange(SAMPLES)).inputs["image"]
        np.save(place / "images.npy", images.numpy())
        save_model(model, place / "model")
        files = ExportOnnx().run(model, context_for(data, 0, place)).files
        files["model.onnx"].rename(place / "float.onnx")
    return place


def accuracies(folder: Path) -> dict[str, float]:
    """Return the accuracy of the float file, of ours and of onnxruntime's, in ONNX Runtime."""
    import torch
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    from mcomp.measure.runtime import OnnxSession
    from mcomp.model.checkpoint import load_model
    from mcomp_stages.export.onnx import ExportOnnx
    from mcomp_stages.quantize.static import QuantizeStatic
    from tests.benchmarks.trained import context_for, mnist

    data, context = mnist(), context_for(mnist(), 0, folder)
    quantized = QuantizeStatic.model_validate({"observer": {"type": "kl"}, "samples": SAMPLES})
    result = quantized.run(load_model(folder / "model"), context).model
    assert result is not None
    ExportOnnx().run(result, context).files["model.onnx"].rename(folder / "mcomp.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "onnxruntime.onnx",
        Reader(np.load(folder / "images.npy")),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.Entropy,
    )
    batch = data.split("test").batch(torch.arange(TESTED))
    return {
        name: float(
            (
                OnnxSession(folder / f"{name}.onnx").run({"image": batch.inputs["image"].numpy()}).argmax(1)
                == batch.target.numpy()
            ).mean()
        )
        for name in ("float", "mcomp", "onnxruntime")
    }


def main() -> None:
    """Print what both sides take, in turns, and what is left of the accuracy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where the network and the files are kept")
    parser.add_argument("--rounds", type=int, default=3, help="the least time of so many counts (default: 3)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.folder)))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for image_size in (20, 32):
        place = prepare(arguments.folder, image_size)
        turns = [{side: in_a_process(side, place) for side in SIDES} for _ in range(arguments.rounds)]
        for side in SIDES:
            seconds = min(turn[side]["seconds"] for turn in turns)
            peak = max(turn[side]["peak_mb"] for turn in turns)
            before = turns[0][side]["before_mb"]
            print(
                f"{image_size} px, {side}: {seconds:.2f} s, peak {peak:.0f} MB, of which {before:.0f} before"
            )
    print(accuracies(arguments.folder / "at20"))


if __name__ == "__main__":
    main()
