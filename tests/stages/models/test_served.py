"""Every architecture can be captured, and its file in ONNX Runtime says what the module says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from onnxruntime import InferenceSession
from torch import Tensor

from mcomp import plugins
from mcomp.data.contract import DataFacts, VaryingSize
from mcomp.measure.parity import compare
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.model.example import Example
from mcomp.model.graph import capture
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.onnx.write import write_onnx
from tests.stages.models.tiny_transformers import BERT, sentences

FACTS = DataFacts(channels=3, image_size=16, num_classes=10)
SMALL: dict[str, dict[str, Any]] = {
    "lenet5": {},
    "resnet": {"width": 4},
    "mobilenet_v2": {"width": 0.1, "stem": "small"},
    "efficientnet_lite": {},
    "vgg_bn": {"depth": 11, "width": 4, "head": "small"},
    "vit": {"depth": 2, "width": 24},
}


def small(name: str) -> Model:
    """Return an architecture in its smallest form, in inference mode."""
    kind = plugins.load("models", name)
    config = kind.model_validate({"type": name, **SMALL[name]})
    assert isinstance(config, ModelConfig)
    fitted = config.fitted_to(FACTS)
    torch.manual_seed(0)
    return Model(fitted.build().eval(), fitted)


def images(number: int) -> dict[str, Tensor]:
    return {"image": torch.randn(number, 3, 16, 16, generator=torch.Generator().manual_seed(0))}


@pytest.mark.parametrize("name", SMALL)
def test_the_captured_graph_is_the_module_at_any_batch_size(name: str) -> None:
    module = small(name).module
    graph = capture(module, images(2))
    with torch.no_grad():
        assert torch.allclose(graph(**images(5)), module(**images(5)), atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    module = small(name).module
    module(**images(4)).square().sum().backward()
    silent = [key for key, parameter in module.named_parameters() if parameter.grad is None]
    assert silent == []


@pytest.mark.slow
def test_the_file_of_a_text_model_takes_sentences_of_any_length(tmp_path: Path) -> None:
    kind = plugins.load("models", "transformers")
    config = kind.model_validate({"type": "transformers", "architecture": BERT, "normalize": True})
    assert isinstance(config, ModelConfig)
    module = config.fitted_to(DataFacts()).build()
    example = Example(sentences(2, 5), {name: {1: VaryingSize("sequence", 24)} for name in sentences()})
    graph = served_graph(Model(module, config), example)
    write_onnx(graph, example, tmp_path / "model.onnx", opset=21)
    shapes = [axes.shape for axes in InferenceSession(tmp_path / "model.onnx").get_inputs()]
    assert shapes == [["batch", "sequence"]] * 2
    session = OnnxSession(tmp_path / "model.onnx")
    parity = compare(session, module, [sentences(1, 3), sentences(4, 24), sentences(2, 1)], classes=False)
    assert parity.max_error < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_the_file_says_what_the_module_says(name: str, tmp_path: Path) -> None:
    model = small(name)
    graph = served_graph(model, images(2))
    write_onnx(graph, images(2), tmp_path / "model.onnx", opset=21)
    parity = compare(OnnxSession(tmp_path / "model.onnx"), model.module, [images(1), images(7)])
    assert parity.max_error < 1e-4
