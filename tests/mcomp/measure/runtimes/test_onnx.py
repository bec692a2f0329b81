from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mcomp.errors import StageError
from mcomp.measure.runtimes.onnx import OnnxSession
from tests.mcomp.measure.files import IMAGE, float_classifier, parameters


def expected_logits(images: np.ndarray) -> np.ndarray:
    """The same network with loops."""
    weights = parameters()
    padded = np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)))
    features = np.zeros((len(images), 4, 8, 8))
    for row in range(8):
        for column in range(8):
            patch = padded[:, row : row + 3, column : column + 3]
            features[:, :, row, column] = np.einsum("nij,oij->no", patch, weights["conv.weight"][:, 0])
    features = np.maximum(features + weights["conv.bias"][:, None, None], 0)
    return features.reshape(len(images), -1) @ weights["fc.weight"].T


@pytest.mark.parametrize("threads", [1, 2])
def test_runs_a_file_with_any_number_of_samples(tmp_path: Path, threads: int) -> None:
    session = OnnxSession(float_classifier(tmp_path / "m.onnx"), threads)
    assert session.input_sizes == {"x": (None, *IMAGE)}
    for samples in (1, 5):
        images = np.random.default_rng(1).normal(size=(samples, *IMAGE)).astype(np.float32)
        np.testing.assert_allclose(session.run({"x": images}), expected_logits(images), rtol=1e-4, atol=1e-4)


def test_a_file_that_is_no_model_is_a_stage_error(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(StageError, match=r"cannot load m\.onnx"):
        OnnxSession(tmp_path / "m.onnx")


def test_a_missing_file_is_a_stage_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no such file"):
        OnnxSession(tmp_path / "m.onnx")


def test_inputs_that_do_not_fit_are_a_stage_error(tmp_path: Path) -> None:
    session = OnnxSession(float_classifier(tmp_path / "m.onnx"))
    with pytest.raises(StageError, match=r"m\.onnx takes x, but was given image"):
        session.run({"image": np.zeros((1, *IMAGE), np.float32)})
    with pytest.raises(StageError, match=r"cannot run m\.onnx"):
        session.run({"x": np.zeros((1, 3), np.float32)})
