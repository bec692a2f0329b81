"""What stages do beside training is done once, also if they are interrupted afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mcomp.data.splits import Splits, TensorSplit
from mcomp.model.model import Model
from mcomp.stage import Checkpoint, StageConfig, StageResult
from mcomp.training.config import SGD
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.pruning import cut
from mcomp_stages.methods.quantization import calibrate
from mcomp_stages.methods.quantization.weights import compress
from mcomp_stages.prune.channels import PruneChannels
from mcomp_stages.quantize.qat import QuantizeQat
from mcomp_stages.quantize.weights import QuantizeWeights
from mcomp_stages.tasks.classification import ClassificationConfig
from tests.architectures import NetConfig, example
from tests.mcomp.training.checkpoints import Memory, interrupted_at, terminate
from tests.mcomp.training.setting import Quiet, make_context, same

TRAINING = DistilledTraining(epochs=1, optimizer=SGD(lr=0.05))
PRUNE = PruneChannels.model_validate({"target": {"macs": 0.6}, "round_to": 1, "recover": TRAINING})
QAT = QuantizeQat(training=TRAINING)


class Talked(Quiet):
    """A reporter that may be told something."""

    def log(self, message: str) -> None:
        pass


def run(stage: StageConfig, kept: Memory) -> StageResult:
    torch.manual_seed(0)
    config = NetConfig(name="vgg")
    image = torch.randn(16, *example()["image"].shape[1:], generator=torch.Generator().manual_seed(0))
    pictures = TensorSplit(torch.arange(16), {"image": image}, torch.arange(16) % 3)
    data = Splits(dict.fromkeys(("train", "calibration", "validation", "test"), pictures))
    context = make_context(data, batch_size=8)
    task = ClassificationConfig(num_classes=10)
    context = replace(context, task=task, checkpoints=kept, reporter=Talked())
    return stage.run(Model(config.build().eval(), config), context)


@pytest.mark.parametrize(
    ("stage", "module", "function"), [(PRUNE, cut, "choose_cut"), (QAT, calibrate, "calibrate")]
)
def test_what_came_before_training_is_not_done_again(
    stage: StageConfig, module: Any, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, kept = run(stage, Memory()), Memory()
    assert interrupted_at(0, terminate, lambda: run(stage, kept), monkeypatch) is None
    monkeypatch.setattr(module, function, None)
    resumed = run(stage, kept)
    assert whole.model is not None
    assert resumed.model is not None
    assert resumed.facts == whole.facts
    assert resumed.model.edits == whole.model.edits
    assert same(resumed.model.state, whole.model.state)
    assert same(resumed.model.module.state_dict(), whole.model.module.state_dict())


class Killed(Exception):
    """The process ends."""


@pytest.mark.parametrize("method", ["rtn", "hqq", "gptq", "awq"])
@pytest.mark.parametrize("num_done", [0, 1, 4])
def test_weights_go_on_at_the_layer_where_they_were_interrupted(
    method: str, num_done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compress, "UNIT_WEIGHTS", 1)
    stage = QuantizeWeights.model_validate({"method": method, "samples": 8, "group_size": None})
    compressed_step, whole, kept, done = compress.compressed_step, run(stage, Memory()), Memory(), []

    def killed_in_the_middle(model: Model, step: Any, compression: Any) -> Checkpoint:
        if len(done) == num_done:
            raise Killed
        done.append(step)
        return compressed_step(model, step, compression)

    def counted(model: Model, step: Any, compression: Any) -> Checkpoint:
        done.append(step)
        return compressed_step(model, step, compression)

    monkeypatch.setattr(compress, "compressed_step", killed_in_the_middle)
    with pytest.raises(Killed):
        run(stage, kept)
    monkeypatch.setattr(compress, "compressed_step", counted)
    resumed = run(stage, kept)
    assert len(done) == len({each.path for step in done for each in step}) > num_done
    assert resumed.facts == whole.facts
    assert resumed.model is not None
    assert whole.model is not None
    assert resumed.model.edits == whole.model.edits
    assert same(resumed.model.state, whole.model.state)
    assert same(resumed.model.module.state_dict(), whole.model.module.state_dict())
