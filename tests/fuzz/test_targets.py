"""The targets of the fuzzer hold for their seeds and for some random changes of them, without the fuzzer."""

from __future__ import annotations

import importlib
import random
from pathlib import Path

import pytest

from tests.fuzz.mutations import changed_bytes, changed_json

TARGETS = sorted(
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if path.stem not in ("__main__", "mutations", "properties", "test_targets")
)
NUM_CHANGES, MOST_BYTES = 60, 8192


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    target = importlib.import_module(f"tests.fuzz.{name}")
    for seed in target.SEEDS:
        target.attempt(seed)
    chance = random.Random(0)
    for number in range(NUM_CHANGES):
        seed = chance.choice(target.SEEDS)
        data = changed_json(seed, MOST_BYTES, number) if target.IS_JSON else changed_bytes(seed, chance)
        target.attempt(data)
