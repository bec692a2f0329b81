"""The search for the largest share that is fast enough, on made-up times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp_stages.methods.latency_target import Found, Stopwatch, largest_within
from mcomp_stages.prune.channels import PruneChannels
from mcomp_stages.prune.lowrank import PruneLowRank
from tests.stages.prune.setting import context_in, model_of


def searched(limit_ms: float, time_ms: Callable[[float], float], smallest: float = 0.1) -> Found[float]:
    return largest_within(limit_ms, smallest, time_ms(1.0), lambda share: share, time_ms)


@given(st.floats(0.35, 0.9), st.floats(0.5, 2.0))
def test_smooth_times_are_met_within_five_percent(limit: float, power: float) -> None:
    found = searched(0.05 + limit, lambda share: 0.05 + share**power)
    assert found.chosen.ms <= 0.05 + limit
    assert found.chosen.ms >= 0.95 * (0.05 + limit) or len(found.tries) == 10


@given(st.floats(0.25, 0.9))
def test_what_is_chosen_is_the_largest_share_tried_that_fits(limit: float) -> None:
    found = searched(limit, lambda share: round(share * 4) / 4 + 0.01)
    assert found.made == found.chosen.share
    assert found.chosen.share == max(each.share for each in found.tries if each.ms <= limit)


def test_a_model_that_is_fast_enough_is_not_cut() -> None:
    with pytest.raises(StageError, match=r"nothing was cut: the model takes 1 ms as it is"):
        searched(1.5, lambda share: share)


def test_a_limit_that_no_cut_reaches_fails_with_the_times() -> None:
    with pytest.raises(
        StageError, match=r"cannot reach 0.05 ms: the smallest cut, to 10.0% of the .* 0.1 ms"
    ):
        searched(0.05, lambda share: share)


def test_models_are_timed_as_they_are_served(tmp_path: Path) -> None:
    context = context_in(tmp_path)
    model = model_of("vgg")
    small = PruneChannels.model_validate({"target": {"macs": 0.2}, "round_to": 4, "min_channels": 4})
    result = small.run(model, context).model
    assert result is not None
    watch = Stopwatch(model, context, batch_size=64, threads=1)
    assert 0 < watch.ms(result) < watch.whole_ms
    facts = watch.facts(1.0, 0.5)
    assert facts["batch_size"] == 64
    assert facts["machine"]["onnxruntime"]


def test_a_timed_target_has_the_machine_in_its_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import mcomp.step_key
    from mcomp.plan import make_plan
    from mcomp.recipe.build import load_recipe
    from tests.tiny import write_recipes

    recipes = {
        name: load_recipe(write_recipes(tmp_path / name, "{macs: 0.6}", target), ())
        for name, target in (("timed", "{latency_ms: 2.0}"), ("counted", "{macs: 0.6}"))
    }
    keys = {}
    for machine in ("here", "there"):
        monkeypatch.setattr(mcomp.step_key, "machine_id", lambda machine=machine: machine)
        keys |= {(machine, name): make_plan(loaded).pipeline["prune"] for name, loaded in recipes.items()}
    assert keys["here", "timed"] != keys["there", "timed"]
    assert keys["here", "counted"] == keys["there", "counted"]


def count_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a nanosecond for each parameter in place of timing models."""

    def ms(watch: Stopwatch, model: Model) -> float:
        return 1e-6 * sum(each.numel() for each in model.module.parameters())

    monkeypatch.setattr(Stopwatch, "ms", ms)
    monkeypatch.setattr(
        Stopwatch, "__post_init__", lambda watch: setattr(watch, "whole_ms", watch.ms(watch.model))
    )


def test_the_stage_stops_before_training_if_it_cannot_be_fast_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_parameters(monkeypatch)
    stage = PruneChannels.model_validate({"target": {"latency_ms": 1e-6}, "recover": {"epochs": 1}})
    with pytest.raises(StageError, match="cannot reach 1e-06 ms"):
        stage.run(model_of("vgg"), context_in(tmp_path))


@pytest.mark.parametrize("kind", [PruneChannels, PruneLowRank])
def test_a_latency_is_reached(
    kind: type[PruneChannels | PruneLowRank], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_parameters(monkeypatch)
    stage = kind.model_validate({"target": {"latency_ms": 0.011}, "round_to": 2})
    result = stage.run(model_of("vgg"), context_in(tmp_path))
    assert result.model is not None
    assert 0.95 * 11000 <= sum(each.numel() for each in result.model.module.parameters()) <= 11000
    assert result.facts["latency"]["limit_ms"] == 0.011
    assert len(result.facts["latency"]["tries"]) >= 3
