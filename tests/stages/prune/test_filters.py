"""Filters that stand alone."""

from __future__ import annotations

from pathlib import Path

import mcomp_stages.prune.filters as stage_module
from mcomp_stages.prune.filters import PruneFilters
from tests.stages.prune.setting import context_in, model_of
from tests.stages.samples import sample_of


def test_the_sample_in_the_manual_is_valid() -> None:
    assert PruneFilters.model_validate(sample_of(stage_module)).importance == "l1"


def test_channels_that_several_layers_share_stay(tmp_path: Path) -> None:
    stage = PruneFilters.model_validate({"target": {"ratio": 0.5}, "round_to": 4, "min_channels": 4})
    result = stage.run(model_of("mbconv"), context_in(tmp_path))
    assert set(result.facts["channels"]) == {"blocks.0.gate.reduce", "blocks.1.gate.reduce"}
