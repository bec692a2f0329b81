"""What ONNX Runtime makes of whole networks in integers: no convolution and no linear in float."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mcomp.data.contract import VaryingSize
from mcomp.measure.census import census
from mcomp.measure.parity import compare
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.onnx.write import write_onnx
from mcomp_stages.methods.quantization.calibrate import calibrated
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.observers.config import MinMax
from mcomp_stages.methods.quantization.scheme import quantizers_for
from mcomp_stages.models.huggingface import TransformersConfig
from mcomp_stages.models.mobilenet_v2 import MobileNetV2Config
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.models.vit import ViTConfig
from tests.stages.methods.quantization.nets import GatedNet, LineNet, SequenceNet, float_model

SIZES = {"in_channels": 3, "num_classes": 10}
BERT = {
    "model_type": "bert",
    "vocab_size": 100,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 32,
}
IMAGE_NETWORKS: dict[str, tuple[ModelConfig, int]] = {
    "resnet18": (ResNetConfig(depth=18, **SIZES), 21),
    "resnet50": (ResNetConfig(depth=50, **SIZES), 54),
    "mobilenet_v2": (MobileNetV2Config(**SIZES), 53),
    "vit": (ViTConfig(image_size=64, patch=16, depth=2, **SIZES), 10),
}


def images(number: int, size: int = 64) -> dict[str, Tensor]:
    return {"image": torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(0))}


def in_integers(model: Model, example: Example, inputs: dict[str, Tensor]) -> Model:
    scheme = Scheme.model_validate({"weights": {"bits": 7}})
    edited = model.edited(quantizers_for(model.module, example, scheme))
    return calibrated(edited, example, [inputs], MinMax())


def operators(
    model: Model, example: Example, inputs: dict[str, Tensor], folder: Path
) -> tuple[int, tuple[str, ...], dict[str, int]]:
    """Write the file, hold it against the graph, and return what the runtime makes of it."""
    served = served_graph(model, example)
    write_onnx(served, example, folder / "net.onnx", opset=21)
    parity = compare(OnnxSession(folder / "net.onnx"), served, [inputs], classes=False)
    assert parity.mean_cosine > 0.999
    found = census(folder / "net.onnx", folder)
    return found.int8, found.float_layers, found.by_type


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE_NETWORKS)
def test_no_layer_of_a_known_network_is_left_in_float(name: str, tmp_path: Path) -> None:
    spec, num_layers = IMAGE_NETWORKS[name]
    torch.manual_seed(0)
    example = Example(images(2))
    model = in_integers(Model(spec.build().eval(), spec), example, images(4))
    num_int8, float_layers, _ = operators(model, example, images(4), tmp_path)
    assert (num_int8, float_layers) == (num_layers, ())


@pytest.mark.slow
def test_the_linears_of_a_sentence_encoder_are_products_with_a_bias(tmp_path: Path) -> None:
    spec = TransformersConfig(architecture=BERT)
    torch.manual_seed(0)
    tokens = torch.randint(0, 100, (6, 12), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(12) < torch.tensor([12, 9, 7, 12, 3, 5])[:, None]).long()
    inputs = {"input_ids": tokens, "attention_mask": mask}
    length = {1: VaryingSize("sequence", 32)}
    example = Example({name: value[:2] for name, value in inputs.items()}, dict.fromkeys(inputs, length))
    model = in_integers(Model(spec.build().eval(), spec), example, inputs)
    num_int8, float_layers, kinds = operators(model, example, inputs, tmp_path)
    assert (num_int8, float_layers, kinds["QGemm"]) == (12, (), 12)
    # The fused norm of a sum is slower in ONNX Runtime than the two alone.
    assert not {"SkipLayerNormalization", "IsNaN"} & kinds.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("net", "num_layers"), [(GatedNet, 6), (LineNet, 3), (SequenceNet, 8)])
def test_gates_lines_and_masked_attention_leave_no_layer_in_float(
    net: type, num_layers: int, tmp_path: Path
) -> None:
    example = Example(images(2, 16))
    model = in_integers(float_model(net), example, images(4, 16))
    num_int8, float_layers, kinds = operators(model, example, images(4, 16), tmp_path)
    assert (num_int8, float_layers) == (num_layers, ())
    assert "IsNaN" not in kinds
