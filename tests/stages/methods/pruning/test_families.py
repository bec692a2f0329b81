"""The families of networks that people bring: three ratios each, replayed in a fresh process, exported."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mcomp.measure.parity import compare
from mcomp.measure.runtimes.onnx import OnnxRuntime, OnnxSession
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.export.proof import require_parity
from mcomp_stages.methods.onnx.write import write_onnx
from mcomp_stages.methods.pruning.config import Target
from mcomp_stages.methods.pruning.cut import choose_cut
from mcomp_stages.methods.pruning.edit import channel_edits, edited, read_edits, stored
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.methods.pruning.limits import Limits
from mcomp_stages.methods.pruning.proof import require_equal_to_masked
from mcomp_stages.methods.pruning.scores import channel_importance
from mcomp_stages.models.huggingface import TransformersConfig
from mcomp_stages.models.lenet5 import LeNet5Config
from mcomp_stages.models.mobilenet_v2 import MobileNetV2Config
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.models.vit import ViTConfig
from tests.architectures import NetConfig

IMAGES = {"in_channels": 3, "num_classes": 10}
BERT = {"model_type": "bert", "vocab_size": 60, "max_position_embeddings": 64}
TEXT = ("bert", "minilm")


def resnet(depth: int, shortcut: str = "conv") -> ModelConfig:
    return ResNetConfig.model_validate({"depth": depth, "width": 16, "shortcut": shortcut, **IMAGES})


def encoder(width: int, layers: int, heads: int, hidden: int) -> ModelConfig:
    sizes = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
    }
    return TransformersConfig.model_validate({"architecture": {**BERT, **sizes}, "output": "embedding"})


FAMILIES: dict[str, ModelConfig] = {
    "resnet20": resnet(20),
    "resnet20_pad": resnet(20, "pad"),
    "resnet56": resnet(56),
    "resnet56_pad": resnet(56, "pad"),
    "resnet18": resnet(18),
    "resnet50": resnet(50),
    "vgg_bn": NetConfig(name="vgg"),
    "mobilenet_v2": MobileNetV2Config(width=0.35, in_channels=3, num_classes=10),
    "densenet": NetConfig(name="concat"),
    "shufflenet": NetConfig(name="shuffle"),
    "group_norm": NetConfig(name="grouped"),
    "unet": NetConfig(name="unet"),
    "vit": ViTConfig(depth=2, width=32, heads=4, image_size=16, in_channels=3, num_classes=10),
    "lenet5": LeNet5Config.model_validate({"image_size": 16, **IMAGES}),
    "bert": encoder(64, 4, 4, 128),
    "minilm": encoder(384, 6, 12, 1536),
}

REPLAY = """
import sys
from pathlib import Path
from tests.stages.methods.pruning.test_families import replayed
print(replayed(sys.argv[1], Path(sys.argv[2])))
"""


def inputs_of(name: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    if name in TEXT:
        tokens = torch.randint(0, 60, (2, 9), generator=generator)
        return {"input_ids": tokens, "attention_mask": torch.tensor([[1] * 9, [1] * 6 + [0] * 3])}
    return {"image": torch.randn(2, 3, 16, 16, generator=generator)}


def digest(model: Any, name: str) -> str:
    torch.set_num_threads(1)
    with torch.no_grad():
        output: Tensor = model.eval()(**inputs_of(name))
    return hashlib.sha256(output.numpy().tobytes()).hexdigest()


def replayed(name: str, folder: Path) -> str:
    """Return the digest of what a model computes that is built anew, edited and filled from files."""
    module = FAMILIES[name].build()
    for edit in read_edits(json.loads((folder / "edits.json").read_text())):
        edit.apply(module, {})
    module.load_state_dict(load_file(folder / "weights.safetensors"))
    return digest(module, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_three_ratios_a_fresh_process_and_the_runtime(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = Model(FAMILIES[name].build().eval(), FAMILIES[name]), inputs_of(name)
    groups = channel_groups(model.module, inputs)
    assert not groups.unknown
    scores = channel_importance(groups, Evidence(model.module), "l2")
    for ratio in (0.25, 0.5, 0.7):
        cut = choose_cut(groups, scores, Target(ratio=ratio), limits=Limits(2, 2), nearest=True)
        edits = channel_edits(model.module, cut)
        pruned = edited(model, edits)
        require_equal_to_masked(pruned, model, cut, inputs)
    (tmp_path / "edits.json").write_text(json.dumps(stored(edits)))
    save_file(
        {key: value.clone().contiguous() for key, value in pruned.module.state_dict().items()},
        tmp_path / "weights.safetensors",
    )
    done = subprocess.run(
        [sys.executable, "-c", REPLAY, name, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest(pruned.module, name)
    served = served_graph(pruned, inputs)
    write_onnx(served, inputs, tmp_path / "model.onnx", opset=21)
    parity = compare(OnnxSession(tmp_path / "model.onnx"), served, [inputs], classes=False)
    assert parity.median_error <= 1e-5 * parity.size
    require_parity(tmp_path / "model.onnx", OnnxRuntime(), served, [inputs], False, classes=False)
