"""Any JSON as the header of a safetensors file, and any bytes as such a file."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from mcomp.errors import CheckpointError
from mcomp.model.checkpoint import load_weights
from tests.fuzz.properties import require_good_words
from tests.hostile.headers import DATA, GOOD, encoded, entry

SEEDS = [
    json.dumps(each).encode()
    for each in (
        GOOD,
        {**GOOD, "__metadata__": {"format": "pt"}},
        {"weight": entry(0, 16, [2, 4], "F16"), "bias": entry(16, 20, [2], "BF16")},
        {"weight": entry(0, 8, [2, 4], "F8_E4M3"), "bias": entry(8, 8, [0, 3], "BOOL")},
    )
] + [encoded(json.dumps(GOOD).encode())]
IS_JSON = True


def attempt(data: bytes) -> None:
    """Start from the bytes as a checkpoint."""
    path = Path("w.safetensors")
    path.write_bytes(encoded(data, DATA) if data.lstrip()[:1] == b"{" else data)
    try:
        load_weights(nn.Linear(4, 2), path)
    except CheckpointError as error:
        require_good_words(error)
