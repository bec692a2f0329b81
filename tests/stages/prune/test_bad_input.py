"""What no cut can do is refused by all stages that cut channels, in their fields or before they train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp_stages.methods.pruning.structured import StructuredPruning
from mcomp_stages.prune.channels import PruneChannels
from mcomp_stages.prune.filters import PruneFilters
from mcomp_stages.prune.heads import PruneHeads
from tests.architectures import NetConfig, example
from tests.stages.prune.setting import context_in, model_of

STAGES = (PruneChannels, PruneFilters, PruneHeads)
RECOVER = {"epochs": 1}


class Branching(nn.Module):
    """Asks its data which way to go."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = image.mean((2, 3))
        return self.head(x if float(x.sum()) > 0 else -x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", ["ratio", "macs", "params"])
@pytest.mark.parametrize("share", [0.0, 1.0, 1.5, -0.5])
def test_shares_of_nothing_and_of_everything_are_refused(
    stage: type[StructuredPruning], name: str, share: float
) -> None:
    with pytest.raises(ValidationError, match=rf"target.{name}\n"):
        stage.model_validate({"target": {name: share}})


@pytest.mark.parametrize(
    ("stage", "fields", "message"),
    [
        (PruneChannels, {"target": {"macs": 0.01}, "min_channels": 16}, "is the smallest reachable share"),
        (PruneChannels, {"target": {"ratio": 0.5}, "min_channels": 64}, "no channel can be cut"),
        (PruneHeads, {"target": {"ratio": 0.5}, "importance": "l2"}, "no channel can be cut"),
        (PruneChannels, {"layers": [{"match": "classifier.4", "ratio": 0.5}]}, "can be cut"),
    ],
)
def test_what_floors_and_outputs_hold_is_refused_before_training(
    stage: type[StructuredPruning], fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    context = context_in(tmp_path)
    with pytest.raises(StageError, match=message):
        stage.model_validate({**fields, "recover": RECOVER}).run(model_of("vgg"), context)
    context.reporter.progress.assert_not_called()


def test_a_model_that_cannot_be_captured_is_refused_with_the_reason(tmp_path: Path) -> None:
    model = Model(Branching(), NetConfig(name="vgg"))
    with pytest.raises(StageError, match=r"torch\.export cannot capture Branching at .*torch\.where"):
        PruneChannels.model_validate({"target": {"ratio": 0.5}}).run(model, context_in(tmp_path))


@pytest.mark.parametrize("stage", STAGES)
def test_a_program_with_sizes_in_its_graph_is_refused_with_the_reason(
    stage: type[StructuredPruning], tmp_path: Path
) -> None:
    whole = model_of("vit")
    program = torch.export.export(whole.module.eval(), (), kwargs=dict(example()))
    torch.export.save(program, tmp_path / "vit.pt2")
    loaded = torch.export.load(tmp_path / "vit.pt2").module()
    with pytest.raises(StageError, match="sizes are written into its graph, which a cut would"):
        stage.model_validate({"target": {"ratio": 0.5}}).run(Model(loaded, whole.spec), context_in(tmp_path))


def test_every_layer_keeps_a_channel_whatever_is_asked_for(tmp_path: Path) -> None:
    fields = {"target": {"ratio": 0.99}, "round_to": 1, "min_channels": 1, "nearest": True}
    with pytest.raises(StageError, match=r"cannot keep only 1\.0% of the channels: "):
        PruneChannels.model_validate(fields).run(model_of("vgg"), context_in(tmp_path))
