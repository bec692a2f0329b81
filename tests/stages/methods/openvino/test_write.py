from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mcomp.errors import StageError
from mcomp.measure.runtimes.unreported_openvino import ov
from mcomp_stages.methods.openvino.write import write_openvino
from tests.mcomp.measure.files import float_classifier


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    source = float_classifier(tmp_path / "m.onnx")
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files = write_openvino(source, tmp_path / name / "model.xml", {"mcomp.key": "ab"})
        written.append([file.read_bytes() for file in files])
    assert [file.name for file in files] == ["model.xml", "model.bin"]
    assert written[0] == written[1]


def test_what_is_known_of_the_model_is_in_the_file(tmp_path: Path) -> None:
    xml, _ = write_openvino(
        float_classifier(tmp_path / "m.onnx"), tmp_path / "model.xml", {"mcomp.key": "ab"}
    )
    assert ov.Core().read_model(xml).get_rt_info(["mcomp", "key"]).astype(str) == "ab"
    assert str(tmp_path) not in xml.read_text()


def test_an_operator_that_it_lacks_is_named_with_its_layer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("OwnLinear", ["r", "encoder.fc.weight"], ["y"], domain="com.microsoft"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [2, 4])],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(4, np.float32), "encoder.fc.weight")],
    )
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(StageError, match=r"no operator for com\.microsoft\.OwnLinear \(encoder\.fc\)"):
        write_openvino(tmp_path / "m.onnx", tmp_path / "model.xml", {})


def test_a_file_that_is_none_is_refused_in_its_own_words(tmp_path: Path) -> None:
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [])), tmp_path / "m.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x0a")
    with pytest.raises(StageError, match="OpenVINO cannot read the file"):
        write_openvino(tmp_path / "broken.onnx", tmp_path / "model.xml", {})
