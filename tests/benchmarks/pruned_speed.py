"""How many times faster ResNet-18 at 224 px is with half of its multiply-adds, in ONNX Runtime at one thread.

    python tests/benchmarks/pruned_speed.py --rounds 9 --batch-sizes 1 16

FP32 files, weights as drawn: time does not depend on them. The dense network and the cut in multiples of the
last `--round-to` also with integers: weights of 7 bits, with which the fast kernels are exact on every
processor, or `--bits 8` where it has VNNI. The files take turns.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.measure.latency import interleaved, latency, speedup
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.onnx.write import write_onnx
from mcomp_stages.methods.pruning.config import Target
from mcomp_stages.methods.pruning.cut import choose_cut
from mcomp_stages.methods.pruning.edit import channel_edits, edited
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.methods.pruning.limits import Limits
from mcomp_stages.methods.pruning.scores import channel_importance
from mcomp_stages.methods.quantization.calibrate import calibrated
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.observers.config import MinMax
from mcomp_stages.methods.quantization.scheme import quantizers_for
from mcomp_stages.models.resnet import ResNetConfig

EXAMPLE = Example({"image": torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))})


def session_of(model: Model, folder: Path, name: str) -> OnnxSession:
    """Return a model as it is served."""
    path = folder / f"{name}.onnx"
    write_onnx(served_graph(model, EXAMPLE), EXAMPLE, path, opset=21)
    return OnnxSession(path)


def in_integers(model: Model, bits: int) -> Model:
    """Return the model with quantizers, ranges by their extremes."""
    scheme = Scheme.model_validate({"weights": {"bits": bits}})
    edited_model = model.edited(quantizers_for(model.module, EXAMPLE, scheme))
    return calibrated(edited_model, EXAMPLE, [dict(EXAMPLE)], MinMax())


def main() -> None:
    """Cut, export and time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1])
    parser.add_argument("--round-to", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--bits", type=int, choices=[7, 8], default=7, help="of weights as integers")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = ResNetConfig(depth=18, in_channels=3, num_classes=1000)
    model = Model(spec.build().eval(), spec)
    groups = channel_groups(model.module, EXAMPLE)
    scores = channel_importance(groups, Evidence(model.module), "l2")
    with tempfile.TemporaryDirectory() as folder:
        sessions = {"dense": session_of(model, Path(folder), "dense")}
        for round_to in given.round_to:
            cut = choose_cut(groups, scores, Target(macs=0.5), limits=Limits(round_to, round_to))
            name = f"{cut.shares['macs']:.1%} of the multiply-adds, rounded to {round_to}"
            pruned = edited(model, channel_edits(model.module, cut))
            sessions[name] = session_of(pruned, Path(folder), f"rounded-{round_to}")
        for each, of in (("dense", model), (name, pruned)):
            integers = in_integers(of, given.bits)
            sessions[f"{each}, integers"] = session_of(integers, Path(folder), f"integers-{len(sessions)}")
        for batch_size in given.batch_sizes:
            image = EXAMPLE["image"][:1].expand(batch_size, -1, -1, -1).contiguous().numpy()
            turns = interleaved(sessions, {"image": image}, given.rounds)
            for name, ms in turns.items():
                times = speedup(turns["dense"], ms)
                print(f"batch {batch_size}: {name}: {latency(ms).median_ms:.1f} ms, {times:.2f}x")


if __name__ == "__main__":
    main()
