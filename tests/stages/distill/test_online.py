from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from mcomp.errors import StageError
from mcomp.measure.accuracy import evaluate
from mcomp.model.edits import Masks
from mcomp.model.model import Model
from mcomp.training.config import AdamW
from mcomp_stages.distill import online
from mcomp_stages.distill.online import DistillOnline
from mcomp_stages.models.lenet5 import LeNet5Config
from tests.mcomp.training.checkpoints import Memory, interrupted_at, terminate
from tests.mcomp.training.setting import Quiet, make_context, same, small_data, small_model, weights
from tests.stages.samples import sample_of

METHODS: list[dict[str, Any]] = [
    {"type": "dml"},
    {"type": "kdcl"},
    {"type": "kdcl", "teacher": "naive"},
    {"type": "one", "branch": ["fc"]},
]


def stage(method: dict[str, Any], **fields: Any) -> DistillOnline:
    training = {"epochs": 3, "optimizer": AdamW(lr=0.01)}
    return DistillOnline.model_validate({"method": method, "peers": 3, "training": training, **fields})


class Telling(Quiet):
    def log(self, message: str) -> None: ...


def test_sample_in_the_manual_is_valid() -> None:
    assert DistillOnline.model_validate(sample_of(online)).architectures == ({"width": 24},)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_best_of_the_peers_goes_on_and_all_are_told(method: dict[str, Any]) -> None:
    result = stage(method).run(small_model(), make_context())
    peers = json.loads(json.dumps(result.facts))["peers"]
    assert list(peers) == ["0 small", "1 small", "2 small"]
    best = max(peers, key=lambda name: (peers[name]["validation"], -peers[name]["loss"]))
    assert result.facts["chosen"] == best
    assert result.model is not None
    reached = evaluate(result.model.module, small_data().split("validation"), make_context().task)
    assert reached.metric == pytest.approx(peers[best]["validation"])
    assert reached.loss == pytest.approx(peers[best]["loss"])
    assert len({each["loss"] for each in peers.values()}) == 3


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_interrupted_anywhere_it_gives_the_same_weights(
    method: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stage(method).run(small_model(), make_context())
    assert whole.model is not None
    for update in (0, 4):
        kept = replace(make_context(), checkpoints=Memory(), reporter=Telling())
        run = lambda kept=kept: stage(method).run(small_model(), kept)  # noqa: E731
        assert interrupted_at(update, terminate, run, monkeypatch) is None
        resumed = run()
        assert same(weights(resumed.model), weights(whole.model))
        assert resumed.facts == whole.facts


def test_the_recipes_own_model_goes_on_if_asked_to() -> None:
    assert (
        stage({"type": "dml"}, keep="first").run(small_model(), make_context()).facts["chosen"] == "0 small"
    )


def lenet(**changes: Any) -> Model:
    torch.manual_seed(0)
    spec = LeNet5Config.model_validate({"in_channels": 1, "num_classes": 3, "image_size": 28, **changes})
    return Model(spec.build().eval(), spec)


def big_data() -> Any:
    """Return the same images, 28 pixels wide."""
    data = small_data()
    splits = {
        name: replace(split, inputs={"image": nn.functional.interpolate(split.inputs["image"], 28)})
        for name, split in data.by_name.items()
    }
    return replace(data, by_name=splits)


def test_peers_may_be_of_other_architectures() -> None:
    other = {"type": "resnet", "depth": 20, "width": 2}
    chosen = stage({"type": "dml"}, peers=2, architectures=[other]).run(lenet(), make_context(big_data()))
    peers = chosen.facts["peers"]
    assert list(peers) == ["0 lenet5", "1 resnet"]
    assert peers["0 lenet5"]["parameters"] != peers["1 resnet"]["parameters"]
    assert chosen.model is not None
    assert chosen.model.spec.type == chosen.facts["chosen"].split()[1]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"peers": 1}, "greater than or equal to 2"),
        ({"architectures": [{}]}, "peers is 3, but the model and 1 architectures"),
        ({"method": {"type": "one", "branch": ["fc"]}, "architectures": [{}]}, "leave architectures out"),
        ({"method": {"type": "one", "branch": []}}, "at least 1"),
        ({"method": {"type": "dml", "temperature": 0}}, "greater than 0"),
        ({"method": {"type": "dml", "weight": -1}}, "greater than 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        stage(**{"method": {"type": "dml"}, **fields})


@pytest.mark.parametrize(
    ("architectures", "told"),
    [
        ([{"num_classes": 5}], r"must give the same classes; they give \(3,\), \(5,\)"),
        ([{"wdth": 1}], "no lenet5 can be built beside the model: wdth"),
    ],
)
def test_peers_that_do_not_fit_are_told_before_training(architectures: list[Any], told: str) -> None:
    context = make_context(big_data())
    with pytest.raises(StageError, match=told):
        stage({"type": "dml"}, peers=2, architectures=architectures).run(lenet(), context)
    assert isinstance(context.reporter, Quiet)
    assert context.reporter.steps == 0


def test_a_changed_model_has_no_peers() -> None:
    model = small_model().edited(Masks(names=("conv.weight",)))
    with pytest.raises(StageError, match=r"dml starts networks with fresh weights.*\(masks\)"):
        stage({"type": "dml"}).run(model, make_context())


def test_the_input_stays_as_it_was() -> None:
    model = small_model()
    before = weights(model)
    stage({"type": "one", "branch": ["fc"]}).run(model, make_context())
    assert same(weights(model), before)
    assert not any(part._forward_hooks for part in model.module.modules())
