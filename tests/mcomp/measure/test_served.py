from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mcomp.data.contract import VaryingSize
from mcomp.errors import StageError
from mcomp.measure import served as serving
from mcomp.measure.runtime import Exported
from mcomp.measure.runtimes.onnx import OnnxRuntime, OnnxSession
from mcomp.measure.served import at_batch_size, at_sizes, metric_drop, serve, versus
from mcomp.recipe.schema import Measure
from tests.mcomp.measure.files import float_classifier, half_quantized_classifier
from tests.mcomp.measure.problems import Classes, Images

RUNTIME = OnnxRuntime()
MEASURE = Measure(batch_sizes=(1, 3), rounds=3)


@pytest.fixture
def split(tmp_path: Path) -> Images:
    """Images that the float file answers without a mistake."""
    images = Images(torch.zeros(40, dtype=torch.long))
    logits = OnnxSession(float_classifier(tmp_path / "float.onnx")).run({"x": images.x.numpy()})
    images.target = torch.from_numpy(logits).argmax(1)
    return images


def test_a_file_alone_has_its_metric_bytes_and_census(tmp_path: Path, split: Images) -> None:
    file = float_classifier(tmp_path / "float.onnx")
    served = serve(Exported(file), RUNTIME, split, Classes(), MEASURE, tmp_path)
    assert (served.file, served.runtime, served.threads) == ("float.onnx", "onnxruntime", 1)
    assert served.test == 1
    assert served.size_bytes == len(file.read_bytes())
    assert served.census is not None
    assert served.census.float == 2


def test_the_metric_is_taken_in_calls_of_as_many_samples_as_are_timed(
    tmp_path: Path, split: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, sizes = float_classifier(tmp_path / "float.onnx"), []
    run = OnnxSession.run
    monkeypatch.setattr(
        OnnxSession, "run", lambda self, inputs: sizes.append(len(inputs["x"])) or run(self, inputs)
    )
    serve(Exported(file), RUNTIME, split, Classes(), MEASURE, tmp_path)
    assert sizes == [3] * 13 + [1]


def test_beside_the_baseline_a_file_gets_ratios_and_both_get_latencies(tmp_path: Path, split: Images) -> None:
    files = half_quantized_classifier(tmp_path / "int8.onnx"), float_classifier(tmp_path / "float.onnx")
    alone = [serve(Exported(file), RUNTIME, split, Classes(), MEASURE, tmp_path) for file in files]
    served, baseline = versus(*alone, files, RUNTIME, {"x": split.x[:2].numpy()}, MEASURE, "higher")
    assert set(served.latency) == set(served.speedup) == set(baseline.latency) == {1, 3}
    assert served.latency[1].rounds == 3
    assert served.size_ratio == pytest.approx(baseline.size_bytes / served.size_bytes)
    assert served.metric_drop == pytest.approx(1 - served.test)
    assert served.worst_class is not None
    assert baseline.per_class[served.worst_class[0]] == 1
    lost = [
        was - now for was, now in zip(baseline.per_class, served.per_class, strict=True) if was is not None
    ]
    assert served.worst_class[1] == pytest.approx(max(lost))
    assert baseline.speedup == {}


@pytest.mark.parametrize(("ratio", "causes"), [(0.5, 1), (2.0, 0)])
def test_a_file_says_why_when_it_is_slower_and_only_then(
    tmp_path: Path, split: Images, monkeypatch, ratio: float, causes: int
) -> None:
    files = half_quantized_classifier(tmp_path / "int8.onnx"), float_classifier(tmp_path / "float.onnx")
    alone = [serve(Exported(file), RUNTIME, split, Classes(), MEASURE, tmp_path) for file in files]
    monkeypatch.setattr(serving, "speedup", lambda baseline, candidate: ratio)
    served, _ = versus(*alone, files, RUNTIME, {"x": split.x[:2].numpy()}, MEASURE, "higher")
    assert sum("1 of 2 layers stayed in float (fc)" in cause for cause in served.slower_because) == causes


def test_a_drop_is_positive_where_the_file_is_worse() -> None:
    assert metric_drop(0.97, 0.99, "higher") == pytest.approx(0.02)
    assert metric_drop(12.0, 10.0, "lower") == pytest.approx(2.0)
    assert metric_drop(0.99, 0.97, "higher") == pytest.approx(-0.02)
    assert metric_drop(0.0, 0.0, "lower") == 0


def test_a_drop_that_is_exactly_tolerated_does_not_fail_by_its_last_bit() -> None:
    baseline, test = float(np.float32(0.97)), float(np.float32(0.964))
    assert baseline - test > 0.006
    assert metric_drop(test, baseline, "higher") <= 0.006


def test_samples_are_repeated_or_cut_to_the_batch_size() -> None:
    inputs = {"x": np.arange(6).reshape(3, 2)}
    assert at_batch_size(inputs, 2)["x"].tolist() == [[0, 1], [2, 3]]
    assert at_batch_size(inputs, 4)["x"].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]


VARYING = {"ids": {1: VaryingSize("sequence", 8)}, "mask": {1: VaryingSize("sequence", 8)}}
TOKENS = {"ids": np.array([[5, 6, 7]]), "mask": np.array([[1, 1, 0]]), "image": np.zeros((1, 2))}


def test_axes_of_varying_length_are_timed_as_long_as_asked() -> None:
    timed = at_sizes(TOKENS, VARYING, {"sequence": 5})
    assert timed["ids"].tolist() == [[5, 6, 7, 5, 6]]
    assert timed["mask"].tolist() == [[1, 1, 0, 1, 1]]
    assert timed["image"].shape == (1, 2)
    assert at_sizes(TOKENS, VARYING, {"sequence": 2})["ids"].tolist() == [[5, 6]]
    assert at_sizes(TOKENS, VARYING, {})["ids"].tolist() == [[5, 6, 7]]


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"length": 5}, "no axis of the inputs is a length; of varying length: sequence"),
        ({"sequence": 9}, "sequence is at most 8, not 9"),
    ],
)
def test_a_length_that_the_inputs_cannot_have_is_refused(sizes: dict[str, int], told: str) -> None:
    with pytest.raises(StageError, match=told):
        at_sizes(TOKENS, VARYING, sizes)
