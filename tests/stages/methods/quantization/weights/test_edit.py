"""Weights in few bits as an edit: on disk they are their codes alone, and come back to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mcomp import plugins
from mcomp.errors import CheckpointError
from mcomp.model.checkpoint import WEIGHTS as FILE
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.edits import KeepChannels
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.weights.edit import StoredWeights
from tests.stages.methods.quantization.weights.nets import (
    WEIGHTS,
    ReaderConfig,
    reader,
    record,
    stored_model,
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The architecture `reader`, registered for one test."""
    monkeypatch.setattr(plugins, "decorated", {})
    plugins.model("reader")(ReaderConfig)


def stored(bits: int = 4) -> Model:
    model = reader()
    return stored_model(
        model, {name: record(tuple(model.module.get_parameter(name).shape), bits, 10) for name in WEIGHTS}
    )


def test_a_saved_model_comes_back_to_the_bit(tmp_path: Path) -> None:
    model = stored()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.edits == model.edits
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], tensor), name
    assert {name: tensor.dtype for name, tensor in loaded.state.items()} == {
        name: tensor.dtype for name, tensor in model.state.items()
    }


def test_the_file_holds_codes_and_not_the_numbers_they_stand_for(tmp_path: Path) -> None:
    save_model(stored(), tmp_path)
    names = load_file(tmp_path / FILE).keys()
    assert "query.bias" in names
    assert "state:stored.query.weight.codes" in names
    assert not set(WEIGHTS) & set(names)
    assert "head.weight" not in names


def test_fewer_bits_take_fewer_bytes(tmp_path: Path) -> None:
    sizes = []
    for bits in (8, 4, 2):
        save_model(stored(bits), tmp_path / str(bits))
        sizes.append((tmp_path / str(bits) / FILE).stat().st_size)
    assert sizes[0] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[2]), rel=0.1)


def test_a_weight_that_was_changed_since_cannot_be_saved(tmp_path: Path) -> None:
    model = stored()
    model.module.get_parameter("key.weight").data.mul_(1.01)
    with pytest.raises(ValueError, match=r"key\.weight was changed after stored_weights"):
        save_model(model, tmp_path)


def test_nothing_may_change_the_structure_afterwards() -> None:
    with pytest.raises(ValueError, match="cannot change after stored_weights"):
        stored().edited(KeepChannels(slices=()))


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing.weight", "the model has no such weight"), ("query.weight", r"with shape \(3, 3\)")],
)
def test_an_edit_of_another_model_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reader().edited(StoredWeights(weights={name: record((3, 3))}))


def test_codes_of_another_shape_are_refused_when_they_are_loaded(tmp_path: Path) -> None:
    save_model(stored(), tmp_path)
    tensors = load_file(tmp_path / FILE)
    save_file({**tensors, "state:stored.query.weight.scale": torch.ones(1, 1).half()}, tmp_path / FILE)
    with pytest.raises(CheckpointError, match=r"stored\.query\.weight\.scale: \(1, 1\) in the file"):
        load_model(tmp_path)
