from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mcomp.errors import CheckpointError
from mcomp.model.shards import shards, weights_digest
from mcomp.model.weights import read_tensors

PARTS = ("one.safetensors", "two.safetensors")


def tensors() -> dict[str, Tensor]:
    return {f"layer{number}.weight": torch.full((2, 3), float(number)) for number in range(5)}


def in_two_files(folder: Path) -> Path:
    """Write the tensors into two files by turns, and return their index."""
    place = {name: PARTS[number % 2] for number, name in enumerate(tensors())}
    for part in PARTS:
        save_file({name: each for name, each in tensors().items() if place[name] == part}, folder / part)
    return write_index(folder, place)


def write_index(folder: Path, place: object) -> Path:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return index


def test_the_parts_of_a_checkpoint_are_read_as_one(tmp_path: Path) -> None:
    found = read_tensors(in_two_files(tmp_path))
    assert found.keys() == tensors().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors().items())


def test_every_part_is_in_the_digest(tmp_path: Path) -> None:
    index = in_two_files(tmp_path)
    digests = {weights_digest(index)}
    for part in PARTS:
        save_file({name: each + 1 for name, each in read_tensors(tmp_path / part).items()}, tmp_path / part)
        digests.add(weights_digest(index))
    assert len(digests) == 3


@pytest.mark.parametrize(
    "name", ["../one.safetensors", "/etc/one.safetensors", "a/one.safetensors", "one.bin"]
)
def test_an_index_names_nothing_but_safetensors_files_beside_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no safetensors file beside it"):
        shards(write_index(tmp_path, {"weight": name}))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', "[" * 100_000])
def test_what_is_no_index_is_a_checkpoint_error(text: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(CheckpointError, match="no index of a checkpoint"):
        read_tensors(index)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    index = in_two_files(tmp_path)
    (tmp_path / PARTS[1]).unlink()
    with pytest.raises(CheckpointError, match=r"two\.safetensors does not exist"):
        read_tensors(index)


def test_a_tensor_that_its_part_does_not_hold_is_named(tmp_path: Path) -> None:
    in_two_files(tmp_path)
    index = write_index(tmp_path, {"layer1.weight": PARTS[0]})
    with pytest.raises(CheckpointError, match=r"one\.safetensors does not hold layer1\.weight"):
        read_tensors(index)
