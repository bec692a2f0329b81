"""Any JSON as the description of a saved model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from mcomp.errors import CheckpointError, PluginError
from mcomp.model.checkpoint import load_model
from tests.fuzz.properties import require_good_words
from tests.hostile.saved_models import GOOD, STORED, attribute, cut, save

SEEDS = [
    json.dumps({**GOOD, "edits": edits}).encode()
    for edits in (
        [],
        [cut(keep=[0, 2, 4]), cut(axis=1, name="conv2.weight", keep=[0, 2, 4])],
        [attribute("conv1", "out_channels", 6), {"kind": "masks", "names": ["conv1.weight"]}],
        [
            {
                "kind": "quantizers",
                "activations": {"image": {}},
                "weights": {"conv1.weight": {"inputs": ["image"]}},
            }
        ],
        [{"kind": "stored_weights", "weights": {"conv1.weight": STORED}}],
    )
]
IS_JSON = True


def attempt(data: bytes) -> None:
    """Load a model that is described so. A large architecture is not built: how large it is, is asked for."""
    if is_large(data):
        return
    if not Path("model").exists():
        save(Path("model"))
        keep_stored(Path("model/weights.safetensors"))
    Path("model/model.json").write_bytes(data)
    try:
        load_model(Path("model"))
    except (CheckpointError, PluginError) as error:
        require_good_words(error)


def keep_stored(weights: Path) -> None:
    """Add the tensors of a weight in four bits, which a model without that edit does not ask for."""
    kept = load_file(weights)
    kept["state:stored.conv1.weight.codes"] = torch.zeros(6, 13, dtype=torch.uint8)
    kept["state:stored.conv1.weight.scale"] = torch.ones(6, 1, dtype=torch.float16)
    save_file(kept, weights)


def is_large(data: bytes) -> bool:
    """Return whether an argument of the architecture is a large number."""
    try:
        arguments = json.loads(data)["spec"]["arguments"]
        return any(isinstance(value, int) and value > 64 for value in arguments.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, IndexError):
        return False
