"""Running a model from one safetensors file, and what is said of files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mcomp import plugins
from mcomp.data.contract import VaryingSize
from mcomp.errors import StageError
from mcomp.measure.runtimes.packed_model import PackedModel
from mcomp.model.checkpoint import parts
from mcomp.model.example import Example
from mcomp.model.one_file import example_of, inputs_of, with_metadata, write_one_file
from tests.mcomp.training.setting import SmallConfig, make_context, small_model


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plugins, "decorated", {})
    plugins.model("small")(SmallConfig)
    path = tmp_path / "m.safetensors"
    write_one_file(path, *parts(small_model()), {}, make_context().example, {})
    return path


def changed(path: Path, name: str, value: Any) -> None:
    """Write another entry into the metadata of a file."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata = header.pop("__metadata__")
    plain = json.dumps(header).encode()
    path.write_bytes(
        with_metadata(
            len(plain).to_bytes(8, "little") + plain + content[start:], {**metadata, name: json.dumps(value)}
        )
    )


def test_it_runs_any_number_of_samples(file: Path) -> None:
    session = PackedModel().session(file)
    assert session.input_sizes == {"image": (None, 1, 6, 6)}
    assert session.input_types == {"image": np.float32}
    image = torch.randn(5, 1, 6, 6)
    with torch.no_grad():
        expected = small_model().module(image)
    np.testing.assert_array_equal(session.run({"image": image.numpy()}), expected.numpy())


def test_sizes_that_vary_come_back() -> None:
    varying = {"ids": {1: VaryingSize("sequence", 40)}}
    example = Example({"ids": torch.ones(2, 7, dtype=torch.int64), "x": torch.ones(2, 3)}, varying)
    kept = example_of(inputs_of(example))
    assert kept.varying == varying
    assert all(torch.equal(kept[name], example[name]) for name in example)


def test_weights_without_a_model_are_refused(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(StageError, match=r"mcomp cannot load w\.safetensors: .* holds weights, but no model"):
        PackedModel().load(tmp_path / "w.safetensors")


WRONG = [
    ("mcomp.model", {}, "is broken"),
    ("mcomp.weights", {"conv.weight": {"is": "codes", "mask": "none"}}, "is broken"),
    ("mcomp.weights", {"conv.weight": 3}, "is broken"),
    ("mcomp.numbers", {"float32": 3}, "is broken"),
    ("mcomp.inputs", {"image": {"type": "object", "sizes": [2]}}, "is broken"),
    ("mcomp.inputs", {"image": {"type": "float32", "sizes": [2**40]}}, "is broken"),
    ("mcomp.numbers", {}, "does not fit the model"),
]


@pytest.mark.parametrize(("name", "value", "said"), WRONG)
def test_metadata_that_does_not_fit_is_refused(file: Path, name: str, value: Any, said: str) -> None:
    changed(file, name, value)
    with pytest.raises(StageError, match=said):
        PackedModel().load(file)


def test_a_missing_and_a_truncated_file_are_told(file: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no such file"):
        PackedModel().load(tmp_path / "none.safetensors")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(StageError, match="truncated or not a safetensors file"):
        PackedModel().load(file)
