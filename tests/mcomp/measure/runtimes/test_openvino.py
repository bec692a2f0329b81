from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcomp.errors import StageError
from mcomp.measure.runtimes.onnx import OnnxRuntime
from mcomp.measure.runtimes.openvino import OpenVino, settings
from mcomp.measure.runtimes.unreported_openvino import ov
from tests.mcomp.measure.files import IMAGE, float_classifier, half_quantized_classifier

RUNTIME = OpenVino()


def images(samples: int = 5) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(size=(samples, *IMAGE)).astype(np.float32)}


def converted(source: Path) -> Path:
    path = source.with_suffix(".xml")
    ov.save_model(ov.Core().read_model(source), path, compress_to_fp16=False)
    return path


def test_it_gives_what_onnx_runtime_gives(tmp_path: Path) -> None:
    source = float_classifier(tmp_path / "m.onnx")
    session = RUNTIME.session(converted(source), threads=2)
    assert session.input_sizes == {"x": (None, *IMAGE)}
    for samples in (1, 5):
        expected = OnnxRuntime().load(source).run(images(samples))
        np.testing.assert_allclose(session.run(images(samples)), expected, rtol=1e-4, atol=1e-4)


def test_an_output_stays_what_it_was_when_the_file_runs_again(tmp_path: Path) -> None:
    session = RUNTIME.session(converted(float_classifier(tmp_path / "m.onnx")))
    first = session.run(images())
    kept = first.copy()
    session.run({"x": images()["x"] + 1})
    np.testing.assert_array_equal(first, kept)


def test_floats_are_not_rounded_to_bfloat16() -> None:
    assert settings(1)["INFERENCE_PRECISION_HINT"] == "f32"


def test_the_census_names_the_layer_left_in_float(tmp_path: Path) -> None:
    floats = RUNTIME.census(converted(float_classifier(tmp_path / "f.onnx")), tmp_path)
    assert (floats.int8, floats.float, sorted(floats.float_layers)) == (0, 2, ["conv", "fc"])
    half = RUNTIME.census(converted(half_quantized_classifier(tmp_path / "q.onnx")), tmp_path)
    assert (half.int8, half.float, half.float_layers) == (1, 1, ("fc",))


def test_what_layers_give_is_found_by_their_names(tmp_path: Path) -> None:
    source = float_classifier(tmp_path / "m.onnx")
    here = RUNTIME.layer_values(converted(source), images())
    there = OnnxRuntime().layer_values(source, images())
    assert list(here) == list(there) == ["conv", "fc"]
    for name, value in there.items():
        np.testing.assert_allclose(here[name], value, rtol=1e-4, atol=1e-4)


def test_what_it_refuses_is_a_stage_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no such file"):
        RUNTIME.load(tmp_path / "m.xml")
    (tmp_path / "m.xml").write_text("<net>")
    with pytest.raises(StageError, match=r"OpenVINO cannot load m\.xml"):
        RUNTIME.load(tmp_path / "m.xml")
    session = RUNTIME.load(converted(float_classifier(tmp_path / "f.onnx")))
    with pytest.raises(StageError, match=r"f\.xml takes x, but was given image"):
        session.run({"image": images()["x"]})
    with pytest.raises(StageError, match=r"OpenVINO cannot run f\.xml"):
        session.run({"x": np.zeros((1, 3), np.float32)})


def test_openvino_does_not_report_home_that_it_is_used() -> None:
    code = (
        "import sys; import mcomp.measure.runtimes.openvino; "
        "sys.exit(0 if sys.modules['openvino_telemetry'] is None else 'it was loaded')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
