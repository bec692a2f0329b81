"""ONNX files: what stands in them, and that they repeat."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch.fx import GraphModule

from mcomp.errors import StageError
from mcomp.measure.census import census
from mcomp.measure.runtimes.onnx import OnnxRuntime, OnnxSession
from mcomp.model.example import Example
from mcomp.model.graph import capture
from mcomp.model.model import Model
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.export.sizes import with_fixed
from mcomp_stages.methods.onnx import write
from mcomp_stages.methods.onnx.proof import require_integers
from mcomp_stages.methods.onnx.write import write_onnx
from tests.stages.methods.quantization.nets import ChainNet, float_model, pictures, quantized_model

EXAMPLE = pictures(2)


def written(model: Model, folder: Path) -> Path:
    (path,) = write_onnx(served_graph(model, EXAMPLE), EXAMPLE, folder / "model.onnx", opset=21)
    return path


@pytest.fixture(scope="module")
def integers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(quantized_model(float_model()), tmp_path_factory.mktemp("integers"))


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(float_model(), tmp_path_factory.mktemp("floats"))


def test_quantizers_become_the_onnx_operators_one_to_one(integers: Path) -> None:
    model = quantized_model(float_model())
    graph = served_graph(model, EXAMPLE)
    calls = Counter(str(node.target) for node in graph.graph.nodes)
    found = Counter(node.op_type for node in onnx.load(integers).graph.node)
    assert found["QuantizeLinear"] == calls["mcomp.quantize_linear.default"] == 6
    assert found["DequantizeLinear"] == calls["mcomp.dequantize_linear.default"]
    assert found["BatchNormalization"] == 0


def test_weights_are_stored_as_integers(integers: Path) -> None:
    types = {tensor.name: tensor.data_type for tensor in onnx.load(integers).graph.initializer}
    assert types["conv.weight_integers"] == TensorProto.INT8
    assert types["conv.bias_integers"] == TensorProto.INT32


def test_the_runtime_runs_every_layer_addition_and_pooling_in_integers(integers: Path) -> None:
    found = census(integers, integers.parent)
    assert found.float == 0
    expected = {
        "QLinearConv": 3,
        "QGemm": 1,
        "QLinearAdd": 1,
        "QLinearGlobalAveragePool": 1,
        "QuantizeLinear": 1,
    }
    assert expected.items() <= found.by_type.items()
    assert not {"DequantizeLinear", "Clip", "Relu", "Add", "GlobalAveragePool"} & found.by_type.keys()


def test_max_pooling_and_padded_shortcuts_stay_in_integers(tmp_path: Path) -> None:
    model = quantized_model(float_model(ChainNet))
    found = require_integers(written(model, tmp_path), model)
    assert (found.int8, found.float) == (4, 0)
    assert found.by_type["QuantizeLinear"] == 1
    assert "DequantizeLinear" not in found.by_type
    assert found.by_type["Pad"] == 1  # the shortcut's; the other one is inside the convolution


def test_a_float_model_is_exported_with_its_batch_norms_folded_by_the_runtime(floats: Path) -> None:
    found = census(floats, floats.parent)
    assert found.float == 4
    assert "BatchNormalization" not in found.by_type
    assert found.by_type["GlobalAveragePool"] == 1


def test_layers_are_called_by_their_module_path(integers: Path, floats: Path) -> None:
    for path in (integers, floats):
        names = [node.name for node in onnx.load(path).graph.node if node.op_type in ("Conv", "Gemm")]
        assert sorted(names) == ["conv", "fc", "shortcut", "stem"]
    assert {name.partition(":")[0] for name in census(floats, floats.parent).float_layers} == {
        "conv",
        "fc",
        "shortcut",
        "stem",
    }


@pytest.mark.parametrize("num_samples", [1, 7])
def test_inputs_keep_their_names_and_any_batch_size_runs(integers: Path, num_samples: int) -> None:
    session = OnnxSession(integers)
    assert list(session.input_sizes) == ["image"]
    output = session.run({"image": np.zeros((num_samples, 3, 16, 16), dtype=np.float32)})
    assert output.shape == (num_samples, 10)
    assert [value.name for value in onnx.load(integers).graph.output] == ["output"]


def test_a_file_says_who_made_it_and_not_where(integers: Path, floats: Path) -> None:
    for path in (integers, floats):
        model = onnx.load(path)
        assert model.producer_name == "mcomp"
        assert str(Path(__file__).parents[4]).encode() not in path.read_bytes()
        assert b"site-packages" not in path.read_bytes()
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


SCRIPT = """
import hashlib, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.onnx.write import write_onnx
from tests.stages.methods.quantization.nets import float_model, pictures, quantized_model
path, example = Path(sys.argv[1]), pictures(2)
write_onnx(served_graph(quantized_model(float_model()), example), example, path, opset=21)
"""


def test_another_process_writes_the_same_bytes(integers: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.onnx"
    root = Path(__file__).parents[4]
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True, cwd=root)
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(integers.read_bytes()).digest()


def test_weights_beyond_one_message_go_to_a_second_file(
    floats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "LARGEST_WEIGHTS", 1000)
    model = onnx.load(floats)
    path, data = write.save(model, tmp_path / "model.onnx")
    assert path.stat().st_size < floats.stat().st_size
    assert data.stat().st_size > 1000
    inputs = {"image": pictures(2)["image"].numpy()}
    assert np.array_equal(OnnxSession(path).run(inputs), OnnxSession(floats).run(inputs))


def test_the_exporter_leaves_the_graph_in_inference_mode() -> None:
    model = float_model()
    served = served_graph(model, EXAMPLE)
    with torch.no_grad():
        assert torch.allclose(served(**EXAMPLE), model.module(**EXAMPLE), atol=1e-5)


def captured(module: torch.nn.Module, example: Mapping[str, torch.Tensor]) -> GraphModule:
    """Return the graph of a module, in inference mode."""
    graph = capture(module, example)
    graph = GraphModule(graph, graph.graph)
    graph.eval()
    return graph


def test_an_operator_that_onnx_lacks_is_named_with_its_layer(tmp_path: Path) -> None:
    class Bessel(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    module = torch.nn.Sequential(torch.nn.Linear(4, 4), Bessel())
    example = {"input": torch.ones(2, 4)}
    with pytest.raises(StageError, match=r"no operator for aten\.special_bessel_j0\.default \(1\)"):
        write_onnx(captured(module, example), example, tmp_path / "model.onnx", opset=21)


def test_the_file_says_what_it_was_told_to(tmp_path: Path) -> None:
    example = {"input": torch.ones(2, 4)}
    path = tmp_path / "model.onnx"
    write_onnx(
        captured(torch.nn.Linear(4, 4), example), example, path, opset=21, metadata={"mcomp.key": "ab"}
    )
    assert {each.key: each.value for each in onnx.load(path).metadata_props} == {"mcomp.key": "ab"}


def test_fixed_sizes_are_in_the_file(tmp_path: Path) -> None:
    fixed = with_fixed(Example({"input": torch.ones(2, 4)}), {"batch": 3})
    graph = captured(torch.nn.Linear(4, 4), Example({"input": torch.ones(2, 4)}))
    write_onnx(graph, fixed, tmp_path / "model.onnx", opset=21)
    session = OnnxSession(tmp_path / "model.onnx")
    assert session.input_sizes == {"input": (3, 4)}
    inputs = {"input": np.ones((5, 4), np.float32)}
    assert OnnxRuntime().session(tmp_path / "model.onnx").run(inputs).shape == (5, 4)
