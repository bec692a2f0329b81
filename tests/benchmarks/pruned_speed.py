"""How many times faster ResNet-18 at 224 px is with half of its multiply-adds, in ONNX Runtime at one thread.

    python tests/benchmarks/pruned_speed.py --rounds 9

FP32 files, weights as drawn: time does not depend on them. The files take turns.
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
from mcomp_stages.models.resnet import ResNetConfig

EXAMPLE = {"image": torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))}


def session_of(model: Model, folder: Path, name: str) -> OnnxSession:
    """Return a model as it is served."""
    path = folder / f"{name}.onnx"
    write_onnx(served_graph(model, EXAMPLE), EXAMPLE, path, opset=21)
    return OnnxSession(path)


def main() -> None:
    """Cut, export and time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1])
    parser.add_argument("--round-to", type=int, nargs="+", default=[1, 8, 16])
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
        for batch_size in given.batch_sizes:
            image = EXAMPLE["image"][:1].expand(batch_size, -1, -1, -1).contiguous().numpy()
            turns = interleaved(sessions, {"image": image}, given.rounds)
            for name, ms in turns.items():
                times = speedup(turns["dense"], ms)
                print(f"batch {batch_size}: {name}: {latency(ms).median_ms:.1f} ms, {times:.2f}x")


if __name__ == "__main__":
    main()
