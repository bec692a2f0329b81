"""Static KL calibration against onnxruntime's Entropy calibrator: time, memory, accuracy.

    python tests/benchmarks/calibration_cost.py --folder DIR

ResNet-56 of width 16, trained for a few epochs on 1,000 images of MNIST, calibrated on 128 of them in batches
of 64. Each calibration runs in a process of its own with one thread; seconds are those of the processor, the
peaks those of the whole processes, libraries included. By default the Entropy calibrator counts in 128 bins,
which for 128 levels are the extremes again; with 2048 it looks for thresholds as the KL observer does. The
first time that a process captures a network is told apart: exports and proofs need it too. The accuracy is
that of both files in ONNX Runtime on the same 1,000 test images. onnxruntime's quantizer has its expert
settings: U8S8, weights per channel.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

SAMPLES, BATCH, TESTED, EPOCHS = 128, 64, 1000, 4


def peak_mb() -> float:
    """Return the largest memory that this process has had."""
    # Not getrusage: its figure starts from that of the process which started this one.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 1024


def calibrate_mcomp(folder: Path) -> dict[str, float]:
    """Calibrate with `quantize.static`'s own steps; capturing the graph counts."""
    import torch

    from mcomp.model.checkpoint import load_model
    from mcomp_stages.methods.quantization.config import Scheme
    from mcomp_stages.methods.quantization.observers.config import KL
    from mcomp_stages.methods.quantization.post_training.pipeline import PostTraining
    from mcomp_stages.methods.quantization.training_graph import canonical_graph

    torch.set_num_threads(1)
    image = torch.from_numpy(np.load(folder / "images.npy"))
    model, before = load_model(folder / "model"), peak_mb()
    batches, example = [{"image": each} for each in torch.split(image, BATCH)], {"image": image[:2]}
    start = time.process_time()
    canonical_graph(model.module, example)
    captured = time.process_time()
    PostTraining(example, batches, KL(), "extremes").quantized(model, Scheme())
    return {
        "capture": captured - start,
        "seconds": time.process_time() - captured,
        "before_mb": before,
        "peak_mb": peak_mb(),
    }


class Reader:
    """Gives onnxruntime the calibration images, batch by batch."""

    def __init__(self, images: np.ndarray) -> None:
        self.batches = iter([images[start : start + BATCH] for start in range(0, len(images), BATCH)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


def calibrate_onnxruntime(folder: Path, num_bins: int) -> dict[str, float]:
    """Calibrate with the Entropy calibrator, on the operators that onnxruntime's quantizer calibrates."""
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    one_thread()
    images, before = np.load(folder / "images.npy"), peak_mb()
    start = time.process_time()
    calibrator = create_calibrator(
        folder / "float.onnx",
        ["Conv", "Relu", "Add", "Gemm", "GlobalAveragePool"],
        str(folder / "augmented.onnx"),
        CalibrationMethod.Entropy,
        extra_options={"num_bins": num_bins},
    )
    calibrator.collect_data(Reader(images))
    calibrator.compute_data()
    return {"seconds": time.process_time() - start, "before_mb": before, "peak_mb": peak_mb()}


def one_thread() -> None:
    """Let sessions that onnxruntime makes for itself have one thread, as those of the other side."""
    import onnxruntime

    make = onnxruntime.InferenceSession

    def session(path: Any, options: Any = None, **named: Any) -> Any:
        options = options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return make(path, sess_options=options, **{k: v for k, v in named.items() if k != "sess_options"})

    onnxruntime.InferenceSession = session


SIDES: dict[str, Callable[[Path], dict[str, float]]] = {
    "mcomp": calibrate_mcomp,
    "onnxruntime 128 bins": partial(calibrate_onnxruntime, num_bins=128),
    "onnxruntime 2048 bins": partial(calibrate_onnxruntime, num_bins=2048),
}


def in_a_process(side: str, folder: Path) -> dict[str, float]:
    """Run one calibration in a fresh process."""
    command = [sys.executable, __file__, "--folder", str(folder), "--side", side]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def kept(path: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return what was measured, now or in an earlier run."""
    if not path.exists():
        path.write_text(json.dumps(measure()))
    figures: dict[str, float] = json.loads(path.read_text())
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

    from mcomp.measure.runtimes.onnx import OnnxSession
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
    """Print what each side takes, and what is left of the accuracy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where the network and the files are kept")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](arguments.folder)))
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for image_size in (20, 32):
        place = prepare(arguments.folder, image_size)
        print(f"{image_size} px")
        for side in SIDES:
            figures = kept(place / f"{side}.json".replace(" ", "-"), partial(in_a_process, side, place))
            print(f"  {side}:", {name: round(value, 2) for name, value in figures.items()}, flush=True)
    print(accuracies(arguments.folder / "at20"))


if __name__ == "__main__":
    main()
