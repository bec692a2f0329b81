"""Folders of saved models whose description asks for what no stage writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.hostile.attack import Attack, Prepare, both, hole, link, pipe
from tests.hostile.pickles import ESCAPES

KEEP_ALL = (0, 1, 2, 3, 4, 5)  # the outputs of the first convolution
SPEC = {
    "type": "lenet5",
    "version": "1",
    "arguments": {"image_size": 12, "in_channels": 1, "num_classes": 2},
}
WITH_CHECKPOINT = {
    "image_size": 12,
    "in_channels": 1,
    "num_classes": 2,
    "checkpoint": "../../outside/secret.pt",
}
GOOD: dict[str, Any] = {"format": 1, "spec": SPEC, "edits": [], "tied": {}, "import": []}


def save(folder: Path) -> None:
    """Save a small model."""
    from mcomp.model.checkpoint import save_model
    from mcomp.model.model import Model
    from mcomp_stages.models.lenet5 import LeNet5Config

    spec = LeNet5Config(image_size=12, in_channels=1, num_classes=2)
    save_model(Model(spec.build(), spec), folder)


def load(folder: Path) -> None:
    """Load the model."""
    from mcomp.model.checkpoint import load_model

    load_model(folder)


def start(folder: Path) -> None:
    """Start from its weights, as `checkpoint:` does."""
    from mcomp.model.checkpoint import load_weights
    from mcomp_stages.models.lenet5 import LeNet5Config

    load_weights(LeNet5Config(image_size=12, in_channels=1, num_classes=2).build(), folder)


def described(text: bytes | str) -> Prepare:
    """Return what saves a model and describes it in other words."""
    content = text if isinstance(text, bytes) else text.encode()
    return both(save, lambda folder: (folder / "model.json").write_bytes(content))


def laid(
    prepare: Prepare,
    told: str,
    source: str = "own",
    error: str = "CheckpointError",
    act: Callable[[Path], object] = load,
) -> Attack:
    """Return an attack by a folder."""
    codes = {"CheckpointError": 2, "PluginError": 4}
    return Attack(source, prepare, act, told, codes[error], error)


def said(
    changes: Mapping[str, Any], told: str, source: str = "own", error: str = "CheckpointError"
) -> Attack:
    """Return an attack by a description with changes."""
    return laid(described(json.dumps({**GOOD, **changes})), told, source, error)


def edited(*edits: Any, told: str, source: str = "own", error: str = "CheckpointError") -> Attack:
    """Return an attack by the edits."""
    return said({"edits": edits}, told, source, error)


STORED = {"shape": [6, 1, 5, 5], "bits": 4, "group_size": 25}


def stored(told: str, source: str = "own", name: str = "conv1.weight", **record: Any) -> Attack:
    """Return an attack by what is said of a weight in four bits; its tensors are as they should be, unless
    `tensors` says otherwise.
    """
    tensors = record.pop("tensors", {})
    edit = {"kind": "stored_weights", "weights": {name: {**STORED, **record}}}

    def prepare(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        described(json.dumps({**GOOD, "edits": [edit]}))(folder)
        kept = {key: value for key, value in load_file(folder / "weights.safetensors").items() if key != name}
        parts = {
            "codes": torch.zeros(6, 13, dtype=torch.uint8),
            "scale": torch.ones(6, 1, dtype=torch.float16),
            **{part: make(torch) for part, make in tensors.items()},
        }
        kept |= {f"state:stored.{name}.{part}": tensor for part, tensor in parts.items()}
        save_file(kept, folder / "weights.safetensors")

    return laid(prepare, told, source)


def cut(axis: Any = 0, keep: Any = KEEP_ALL, name: Any = "conv1.weight", **more: Any) -> dict[str, Any]:
    """Return an edit that keeps some channels."""
    return {"kind": "keep_channels", "slices": [{"name": name, "axis": axis, "keep": keep}], **more}


def attribute(module: Any, name: Any, value: Any) -> dict[str, Any]:
    """Return an edit that sets what a module remembers."""
    return cut(attributes=[{"module": module, "name": name, "value": value}])


def instead(name: str, make: Callable[[str], Prepare]) -> Prepare:
    """Return what saves a model and puts something else in the place of a file."""
    return both(save, lambda folder: (folder / name).unlink(), make(name))


def to_device(name: str) -> Prepare:
    """Return what makes a link to a device that never ends."""
    return link(name, "/dev/zero")


BROKEN = "model.json is broken"
ATTACKS: dict[str, Attack] = {
    # the file
    "no JSON": laid(described(b"{"), BROKEN),
    "no UTF-8": laid(described(b"\xff\xfe"), BROKEN),
    "nested too deep": laid(described(b"[" * 200_000), BROKEN, "cwe-674"),
    "a number of many digits": laid(described(b'{"format": ' + b"9" * 100_000 + b"}"), BROKEN),
    "a hole of a terabyte": laid(instead("model.json", hole), "it is larger than", "cwe-770"),
    "a pipe": laid(instead("model.json", pipe), "it is no plain file", "cwe-67"),
    "a device": laid(instead("model.json", to_device), "it is no plain file", "cwe-67"),
    "weights that are a pipe": laid(instead("weights.safetensors", pipe), "is no file", "cwe-67"),
    "weights that are a device": laid(instead("weights.safetensors", to_device), "is no file", "cwe-67"),
    "a pipe, to start from": laid(instead("model.json", pipe), "it is no plain file", "cwe-67", act=start),
    "a device, to start from": laid(
        instead("model.json", to_device), "it is no plain file", "cwe-67", act=start
    ),
    # the architecture
    "an unknown key": said({"callbacks": ["evil.run"]}, BROKEN),
    "another format": said({"format": 2}, BROKEN),
    "an architecture that does not exist": said(
        {"spec": {**SPEC, "type": "evil.run"}}, "unknown type 'evil.run'", error="PluginError"
    ),
    "an architecture that is a path": said(
        {"spec": {**SPEC, "type": "../evil:run"}}, "unknown type", "cwe-22", error="PluginError"
    ),
    "an architecture with escapes": said(
        {"spec": {**SPEC, "type": ESCAPES}}, r"\x1b[2J", "cwe-150", error="PluginError"
    ),
    "a module to import": said(
        {"spec": {**SPEC, "type": "mine"}, "import": ["evil"]},
        "add --import evil if you trust it",
        error="PluginError",
    ),
    "a module that is a command": said({"import": ["evil; rm -rf ~"]}, BROKEN, "cwe-150"),
    "a module with escapes": said({"import": ["evil\x1b[2J"]}, BROKEN, "cwe-150"),
    "a module that is an option": said({"import": ["--store=/"]}, BROKEN),
    "a version with escapes": said({"spec": {**SPEC, "version": ESCAPES}}, r"version \x1b[2J", "cwe-150"),
    "an argument that does not exist": said(
        {"spec": {**SPEC, "arguments": {"_target_": "evil.run"}}}, "refuses its arguments"
    ),
    "an argument with escapes": said({"spec": {**SPEC, "arguments": {ESCAPES: 1}}}, r"\x1b[2J", "cwe-150"),
    "an argument of another kind": said(
        {"spec": {**SPEC, "arguments": {"image_size": "12"}}}, "refuses its arguments"
    ),
    "a checkpoint of its own": Attack(
        "cwe-22", described(json.dumps({**GOOD, "spec": {**SPEC, "arguments": WITH_CHECKPOINT}})), load, "", 0
    ),
    # the edits
    "an edit that does not exist": edited(
        {"kind": "evil.run"}, told="unknown type 'evil.run'", error="PluginError"
    ),
    "an edit without a kind": edited({}, told="unknown type 'None'", error="PluginError"),
    "an edit that is a list": edited([], told=BROKEN),
    "a kind with escapes": edited({"kind": ESCAPES}, told=r"\x1b[2J", source="cwe-150", error="PluginError"),
    "an axis below zero": edited(cut(axis=-5), told="keep_channels is broken"),
    "an axis beyond": edited(cut(axis=9), told="has no axis 9"),
    "an axis beyond 64 bits": edited(cut(axis=2**70), told="has no axis"),
    "quantizers along an axis that is not there": edited(
        {
            "kind": "quantizers",
            "activations": {},
            "weights": {"conv1.weight": {"axis": 9, "scale": "stored"}},
        },
        told="has no axis 9",
    ),
    "quantizers along an axis below zero": edited(
        {
            "kind": "quantizers",
            "activations": {},
            "weights": {"conv1.weight": {"axis": -9, "scale": "stored"}},
        },
        told="has no axis -9",
    ),
    "quantizers of groups that do not fit": edited(
        {
            "kind": "quantizers",
            "activations": {},
            "weights": {"conv1.weight": {"per": "group", "group_size": 2**40, "scale": "stored"}},
        },
        told="has no groups of",
    ),
    **{
        f"packed weights {name}": edited(
            {
                "kind": "quantizers",
                "activations": {},
                "weights": {"conv1.weight": {"bits": 4, "packed": [6, 1, 5, 5], "scale": "stored", **site}},
            },
            told=told,
        )
        for name, site, told in (
            ("of another shape", {"packed": [6, 25]}, "is kept as codes of shape"),
            ("of very many numbers", {"packed": [2**40, 2**40]}, "is kept as codes of shape"),
            ("of no shape", {"packed": []}, "is kept as codes of shape"),
            ("in sixteen bits", {"bits": 16}, "bits: Input should be"),
            ("of a scale that follows", {"scale": "follows"}, "would follow from the weight"),
            ("without their tensors", {}, "missing (3)"),
        )
    },
    "a quantizer that trains by code": edited(
        {"kind": "quantizers", "methods": {"image": "evil.run"}}, told="quantizers is broken"
    ),
    "half weights of a type that is a function": edited(
        {"kind": "half_weights", "dtype": "load", "weights": ["conv1.weight"]}, told="dtype: Input should be"
    ),
    "half weights of Python": edited(
        {"kind": "half_weights", "dtype": "float16", "weights": ["conv1.__class__"]},
        told="has no such weight",
    ),
    "half weights without their tensors": edited(
        {"kind": "half_weights", "dtype": "float16", "weights": ["conv1.weight"]}, told="missing (1)"
    ),
    "an index below zero": edited(cut(keep=[-1]), told="keep_channels is broken"),
    "an index beyond": edited(cut(keep=[6]), told="with the kept indices"),
    "an index beyond 64 bits": edited(cut(keep=[2**70]), told="with the kept indices"),
    "no index": edited(cut(keep=[]), told="keep_channels is broken"),
    "one channel ten thousand times": edited(
        cut(keep=[0] * 10_000), cut(axis=1, keep=[0] * 10_000), told="kept twice", source="cwe-770"
    ),
    "indices of other kinds": edited(
        cut(keep=["x"] * 10_000), told="keep_channels is broken", source="cwe-770"
    ),
    "a hundred thousand indices": edited(
        cut(keep=list(range(100_000))), told="with the kept indices", source="cwe-770"
    ),
    "a parameter that is a path": edited(cut(name="../conv1.weight"), told="does not fit", source="cwe-22"),
    "a parameter of Python": edited(cut(name="conv1.__class__"), told="with the kept indices"),
    "a parameter that is a method": edited(cut(name="conv1.forward"), told="with the kept indices"),
    "a parameter with escapes": edited(cut(name=ESCAPES), told=r"\x1b[2J", source="cwe-150"),
    "the class of a module": edited(attribute("conv1", "__class__", 1), told="has no number called"),
    "the parameters of a module": edited(attribute("conv1", "_parameters", 1), told="has no number called"),
    "the method of a module": edited(attribute("conv1", "forward", 1), told="has no number called"),
    "a switch of a module": edited(attribute("conv1", "training", 7), told="has no number called"),
    "an attribute that is not there": edited(attribute("conv1", "evil", 1), told="has no number called"),
    "an attribute of a module that is not there": edited(attribute("a.b", "groups", 1), told="does not fit"),
    "an attribute that is a text": edited(attribute("conv1", "groups", "x"), told="keep_channels is broken"),
    "a mask of nothing": edited({"kind": "masks", "names": ["nothing"]}, told="does not fit"),
    "a mask of Python": edited({"kind": "masks", "names": ["conv1.__class__"]}, told="does not fit"),
    "a mask with escapes": edited({"kind": "masks", "names": [ESCAPES]}, told=r"\x1b[2J", source="cwe-150"),
    "masks of a hundred thousand names": edited(
        {"kind": "masks", "names": ["x"] * 100_000}, told="does not fit", source="cwe-770"
    ),
    "a mask without its tensor": edited({"kind": "masks", "names": ["conv1.weight"]}, told="missing (1)"),
    "quantizers of nothing": edited(
        {"kind": "quantizers", "activations": {}, "weights": {"nothing": {}}}, told="does not fit"
    ),
    "quantizers without their tensors": edited(
        {"kind": "quantizers", "activations": {ESCAPES: {}}, "weights": {}},
        told="missing (",
        source="cwe-150",
    ),
    # weights in few bits
    "weights in nine bits": stored("bits", bits=9),
    "weights in very many bits": stored("bits", bits=2**70),
    "groups beyond 64 bits": stored("group_size", group_size=2**70),
    "weights of another shape": stored("and the model's has", shape=[6, 25]),
    "weights of no shape": stored("and the model's has", shape=[]),
    "weights of very many numbers": stored("and the model's has", "cwe-770", shape=[2**40, 2**40]),
    "weights unpacked by code": stored("unpack: Input should be", unpack="evil.run"),
    "weights of nothing": stored("has no such weight", name="nothing"),
    "weights of Python": stored("has no such weight", name="conv1.__class__"),
    "weights with escapes": stored(r"\x1b[2J", "cwe-150", name=ESCAPES.replace("/", "")),
    "weights of scales that are no numbers": stored(
        "not numbers", tensors={"scale": lambda torch: torch.full((6, 1), float("nan"), dtype=torch.float16)}
    ),
    "weights of fewer codes": stored(
        "of another shape", tensors={"codes": lambda torch: torch.zeros(6, 1, dtype=torch.uint8)}
    ),
    "weights of codes of another kind": stored(
        "of another", tensors={"codes": lambda torch: torch.zeros(6, 13, dtype=torch.float64)}
    ),
    "weights without their tensors": edited(
        {"kind": "stored_weights", "weights": {"conv1.weight": STORED}}, told="missing (2)"
    ),
    "a thousand edits": edited(
        *[cut()] * 1000, {"kind": "evil"}, told="unknown type 'evil'", error="PluginError"
    ),
    "an edited model, to start from": laid(
        described(json.dumps({**GOOD, "edits": [{"kind": ESCAPES}] * 1000})), r"\x1b[2J", "cwe-150", act=start
    ),
    "tied names that are a list": said({"tied": [1]}, BROKEN),
    "a tied name of more": said({"tied": {ESCAPES: "conv1.weight"}}, r"\x1b[2J", "cwe-150"),
}
