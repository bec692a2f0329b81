"""Models on disk, and the checkpoints of others: what comes back, and what is refused and how it is said."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mcomp import plugins
from mcomp.errors import CheckpointError, PluginError
from mcomp.fingerprint import canonical
from mcomp.model.checkpoint import load_model, load_weights, save_model
from mcomp.model.edits import KeepChannels, Masks
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig


class Net(nn.Module):
    """Two linears, a batch norm, and a head that is tied to the first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(4, width)
        self.norm = nn.BatchNorm1d(width)
        self.second = nn.Linear(width, 4)
        self.twin = nn.Linear(4, width)
        self.twin.weight = self.first.weight
        self.register_buffer("causal", torch.full((2, 2), -torch.inf).triu(1))


class NetConfig(ModelConfig):
    type: Literal["tiny"] = "tiny"
    width: int = 6

    def build(self) -> nn.Module:
        return Net(self.width)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The architecture `tiny`, registered for one test."""
    monkeypatch.setattr(plugins, "decorated", {})
    plugins.model("tiny")(NetConfig)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(3)
    return Model(NetConfig(width=6).build(), NetConfig(width=6, checkpoint="start.pt"))


def masked(model: Model) -> Model:
    masked = model.edited(Masks(names=("second.weight",)))
    masked.state["masks.second.weight"][0] = False
    return masked


def cut(model: Model) -> Model:
    keep = (0, 2, 5)
    names = ("second.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
    slices = [{"name": name, "axis": int(name == "second.weight"), "keep": keep} for name in names]
    attributes = [{"module": "second", "name": "in_features", "value": 3}]
    return model.edited(KeepChannels.model_validate({"slices": slices, "attributes": attributes}))


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def edit_json(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "model.json").read_bytes())
    change(content)
    (folder / "model.json").write_bytes(canonical(content))


# Our own models.


def test_a_changed_model_comes_back_whole(model: Model, tmp_path: Path) -> None:
    saved = cut(masked(model))
    save_model(saved, tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    assert equal(dict(loaded.module.state_dict()), dict(saved.module.state_dict()))
    assert equal(loaded.state, saved.state)
    assert loaded.state["masks.second.weight"].shape == (4, 3)
    assert not loaded.state["masks.second.weight"][0].any()
    assert loaded.edits == saved.edits
    assert loaded.spec == NetConfig(width=6)
    assert loaded.module.get_submodule("second").in_features == 3


def test_equal_models_give_equal_bytes(model: Model, tmp_path: Path) -> None:
    save_model(masked(model), tmp_path / "a")
    save_model(load_model(tmp_path / "a"), tmp_path / "b")
    for name in ("model.json", "weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_loading_leaves_the_random_state(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    before = torch.get_rng_state()
    load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_tied_weights_are_stored_once_and_stay_tied(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    assert "twin.weight" not in load_file(tmp_path / "weights.safetensors")
    loaded = load_model(tmp_path).module
    assert loaded.get_parameter("twin.weight") is loaded.get_parameter("first.weight")
    assert torch.equal(loaded.get_parameter("twin.weight"), model.module.get_parameter("twin.weight"))


def test_a_view_is_stored_as_what_it_shows(model: Model, tmp_path: Path) -> None:
    wide = torch.arange(48.0).reshape(4, 12)
    model.module.get_submodule("second").weight = nn.Parameter(wide[:, ::2])
    save_model(model, tmp_path)
    assert torch.equal(load_model(tmp_path).module.get_parameter("second.weight"), wide[:, ::2])


def test_a_name_in_the_state_cannot_clash_with_a_parameter(model: Model, tmp_path: Path) -> None:
    model.state["first.weight"] = torch.tensor([7.0])
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.state["first.weight"].tolist() == [7.0]
    assert torch.equal(
        loaded.module.get_parameter("first.weight"), model.module.get_parameter("first.weight")
    )


def test_an_edit_of_a_missing_plugin_is_named(model: Model, tmp_path: Path) -> None:
    save_model(masked(model), tmp_path)
    edit_json(tmp_path, lambda content: content["edits"][0].update(kind="spectral"))
    with pytest.raises(PluginError, match="spectral"):
        load_model(tmp_path)


def test_an_own_architecture_is_never_imported_but_the_flag_is_named(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model, tmp_path)
    edit_json(tmp_path, lambda content: content.update({"import": ["my_nets"]}))
    monkeypatch.setattr(plugins, "decorated", {})
    with pytest.raises(PluginError, match=r"'tiny'.*add --import my_nets"):
        load_model(tmp_path)


def test_the_module_of_an_own_architecture_is_remembered(model: Model, tmp_path: Path) -> None:
    save_model(masked(model), tmp_path)
    assert json.loads((tmp_path / "model.json").read_bytes())["import"] == [NetConfig.__module__]


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "version": (
        lambda content: content["spec"].update(version="2"),
        "version 2 of tiny; version 1 is installed",
    ),
    "arguments": (lambda content: content["spec"]["arguments"].update(height=1), "refuses its arguments"),
    "format": (lambda content: content.update(format=2), "another version of mcomp"),
    "edit": (lambda content: content["edits"][0].update(names=1), "edit masks is broken"),
    "misfit": (
        lambda content: content["edits"][0].update(names=["nowhere.weight"]),
        "edit 1 .masks. does not fit",
    ),
    "dropped edit": (lambda content: content["spec"]["arguments"].update(width=5), "does not fit the model"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_model_that_cannot_be_rebuilt_is_explained(model: Model, tmp_path: Path, what: str) -> None:
    save_model(masked(model), tmp_path)
    change, message = BROKEN[what]
    edit_json(tmp_path, change)
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("text", [b"", b"[" * 100_000, b'{"format": 1}', b"\xff"])
def test_a_broken_description_is_refused(model: Model, tmp_path: Path, text: bytes) -> None:
    save_model(model, tmp_path)
    (tmp_path / "model.json").write_bytes(text)
    with pytest.raises(CheckpointError, match="broken"):
        load_model(tmp_path)


def test_a_model_without_the_tensors_of_its_edits_is_refused(model: Model, tmp_path: Path) -> None:
    save_model(masked(model), tmp_path)
    tensors = load_file(tmp_path / "weights.safetensors")
    del tensors["bits:masks.second.weight"]
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"missing \(1\):\n    masks\.second\.weight"):
        load_model(tmp_path)


# Checkpoints of others.


def weights(fill: float = 0.5) -> dict[str, Tensor]:
    return {
        name: torch.full_like(tensor, fill) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in Net(6).state_dict().items()
    }


LAYOUTS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda tensors: tensors,
    "state_dict": lambda tensors: {"epoch": 3, "state_dict": tensors, "optimizer": {"lr": 0.1}},
    "model": lambda tensors: {"model": {"state_dict": tensors}},
    "parallel": lambda tensors: {"module." + name: tensor for name, tensor in tensors.items()},
    "compiled": lambda tensors: {"module._orig_mod." + name: tensor for name, tensor in tensors.items()},
    "half": lambda tensors: {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
def test_the_usual_layouts_are_read(tmp_path: Path, layout: str, suffix: str) -> None:
    torch.save(LAYOUTS[layout](weights()), tmp_path / f"w{suffix}")
    net = Net(6)
    load_weights(net, tmp_path / f"w{suffix}")
    assert equal(dict(net.state_dict()), weights())


def test_safetensors_and_our_own_folders_are_read(model: Model, tmp_path: Path) -> None:
    save_file({name: tensor.clone() for name, tensor in weights().items()}, tmp_path / "w.safetensors")
    net = Net(6)
    load_weights(net, tmp_path / "w.safetensors")
    assert equal(dict(net.state_dict()), weights())
    save_model(model, tmp_path / "m")
    load_weights(net, tmp_path / "m")
    assert equal(dict(net.state_dict()), dict(model.module.state_dict()))


def test_weights_of_a_changed_model_are_refused(model: Model, tmp_path: Path) -> None:
    save_model(masked(model), tmp_path)
    with pytest.raises(CheckpointError, match=r"was changed since it was built \(masks\)"):
        load_weights(Net(6), tmp_path)


def test_all_that_does_not_fit_is_told_at_once_and_nothing_is_loaded(tmp_path: Path) -> None:
    tensors = weights()
    tensors["fist.weight"] = tensors.pop("first.weight")
    tensors["second.weight"] = torch.zeros(4, 7)
    tensors["norm.bias"] = torch.zeros(6, dtype=torch.int64)
    torch.save(tensors, tmp_path / "w.pt")
    net = Net(6)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(net, tmp_path / "w.pt")
    assert str(caught.value).splitlines()[1:] == [
        "  missing (1):",
        "    first.weight (is fist.weight meant?)",
        "  unexpected (1):",
        "    fist.weight",
        "  of another shape (1):",
        "    second.weight: (4, 7) in the file, (4, 6) in the model",
        "  of another type (1):",
        "    norm.bias: int64 in the file, float32 in the model",
    ]
    assert equal(dict(net.state_dict()), before)


def test_long_lists_are_cut_with_their_counts(tmp_path: Path) -> None:
    torch.save({f"layer{number}": torch.zeros(1) for number in range(20)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"unexpected \(20\):(\n    layer\d+){8}\n    and 12 more"):
        load_weights(Net(6), tmp_path / "w.pt")


@pytest.mark.parametrize(("name", "value"), [("first.bias", torch.inf), ("norm.running_var", torch.nan)])
def test_weights_that_are_not_numbers_are_refused(tmp_path: Path, name: str, value: float) -> None:
    tensors = weights()
    tensors[name][1] = value
    torch.save(tensors, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=rf"not numbers(\n.*)+{name}"):
        load_weights(Net(6), tmp_path / "w.pt")


def test_a_mask_of_infinities_is_no_mistake(tmp_path: Path) -> None:
    tensors = Net(6).state_dict()
    assert tensors["causal"].isinf().any()
    torch.save(tensors, tmp_path / "w.pt")
    load_weights(Net(6), tmp_path / "w.pt")


# Files that are broken or hostile.


class Malice:
    """Pickled, it asks the reader to make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("is_archive", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, is_archive: bool) -> None:
    content = {"state_dict": Malice(tmp_path / "ran")}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=is_archive)
    with pytest.raises(CheckpointError, match=r"would call \S*mkdir, which was not run"):
        load_weights(Net(6), tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_a_bare_pickle_that_runs_code_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Malice(tmp_path / "ran")))
    with pytest.raises(CheckpointError):
        load_weights(Net(6), tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"Linear.*save model\.state_dict\(\)"):
        load_weights(Net(6), tmp_path / "w.pt")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"w{suffix}"
    tensors = {name: tensor.clone() for name, tensor in weights().items()}
    torch.save(tensors, path) if suffix == ".pt" else save_file(tensors, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match="truncated"):
        load_weights(Net(6), path)


HOSTILE_SAFETENSORS = {
    "a header longer than the file": struct.pack("<Q", 1 << 40) + b"{}",
    "a header above the limit": struct.pack("<Q", 17 * 2**20) + b" " * (17 * 2**20),
    "no JSON": struct.pack("<Q", 2) + b"{]",
    "nested too deep": struct.pack("<Q", 10_000) + b"[" * 10_000,
    "offsets outside": struct.pack("<Q", 57) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}  ',
    "a pickle": pickle.dumps({"a": 1}),
}


@pytest.mark.parametrize("what", HOSTILE_SAFETENSORS)
def test_a_hostile_safetensors_file_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "w.safetensors").write_bytes(HOSTILE_SAFETENSORS[what])
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_weights(Net(6), tmp_path / "w.safetensors")


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data/0", bytes(1_000_000))
    with pytest.raises(CheckpointError, match="compressed archive"):
        load_weights(Net(6), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [({"epoch": 3}, "no state dict, but: epoch"), ([1, 2], "holds a list"), ({}, "but: nothing")],
)
def test_a_file_without_a_state_dict_says_what_it_holds(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=message):
        load_weights(Net(6), tmp_path / "w.pt")


def test_sparse_weights_are_refused(tmp_path: Path) -> None:
    torch.save(weights() | {"first.weight": torch.eye(6)[:, :4].to_sparse()}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="holds a sparse tensor"):
        load_weights(Net(6), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "message"),
    [("gone.pt", "does not exist"), ("gone", "not a checkpoint by its name"), ("", "cannot be read")],
)
def test_a_path_that_is_no_checkpoint_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_weights(Net(6), tmp_path / name)
