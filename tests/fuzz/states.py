"""Any JSON as the numbers of a checkpoint, with the digests that it should have."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mcomp.errors import StoreError
from mcomp.fingerprint import canonical, fingerprint
from mcomp.store.checkpoints import CHECKPOINT_FORMAT, StepCheckpoints
from mcomp.store.store import Store
from tests.fuzz.properties import require_good_words
from tests.hostile.headers import GOOD, encoded

KEY = "0" * 64
TENSORS = encoded(json.dumps(GOOD).encode())
ENTRY = {"size": len(TENSORS), "sha256": hashlib.sha256(TENSORS).hexdigest()}
SEED = {
    "format": CHECKPOINT_FORMAT,
    "key": KEY,
    "label": "train",
    "environment": {},
    "numbers": {"number": 1, "best": {"metric": 0.5}},
    "tensors": ENTRY,
}
SEEDS = [json.dumps(each).encode() for each in (SEED, {**SEED, "environment": {"cpu": "x"}})]
IS_JSON = True


def attempt(data: bytes) -> None:
    """Look for a state to go on from."""
    told: list[str] = []
    store = Store(Path("store"))
    states = StepCheckpoints(store, KEY, dict, told.append)
    folder = Path("store") / "checkpoints" / KEY / "train" / "00000001"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "numbers.json").write_bytes(with_digest(data))
    (folder / "tensors.safetensors").write_bytes(TENSORS)
    found = states.load("train")
    assert (found is None) == bool(told)
    for each in told:
        require_good_words(StoreError(each))


def with_digest(data: bytes) -> bytes:
    """Return JSON as it would have been written; other bytes as they are."""
    try:
        plain = json.loads(data)
        return canonical({"checkpoint": plain, "sha256": fingerprint(plain)}) + b"\n"
    except (ValueError, RecursionError, TypeError):
        return data
