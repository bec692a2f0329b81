"""Train on labels.

    train:
      type: train
      training:
        epochs: 8
        optimizer: {type: sgd, lr: 0.1}
        schedule: {type: one_cycle}

The weights of the epoch that was best on validation are kept, unless `keep: last` is set. Biases and the
parameters of norms do not decay. A quantized model is trained with its quantizers in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp.training.config import Training

if TYPE_CHECKING:
    from torch import Tensor

    from mcomp.data.contract import Batch
    from mcomp.model.model import Model


class Train(StageConfig):
    """Supervised training with the task's own loss."""

    forms = {
        Form.UNTRAINED: Form.FLOAT,
        Form.FLOAT: Form.FLOAT,
        Form.QUANTIZED: Form.QUANTIZED,
    }

    type: Literal["train"] = "train"
    training: Training

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.training.loop import fit

        def loss(batch: Batch, output: Tensor) -> Tensor:
            return context.task.loss(output, batch.target)

        result = fit(model, self.training, context, label="train", loss=loss)
        return StageResult(result.model, facts=result.facts())
