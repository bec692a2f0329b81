from __future__ import annotations

import json

from mcomp.stage import Form
from mcomp.training.config import OneCycle, Training
from mcomp.training.loop import fit
from mcomp_stages.train import supervised
from mcomp_stages.train.supervised import Train
from tests.mcomp.training.setting import label_loss, make_context, same, small_model, weights
from tests.stages.samples import sample_of


def test_sample_in_the_manual_is_valid() -> None:
    assert Train.model_validate(sample_of(supervised)).training.schedule == OneCycle()


def test_it_is_the_loop_with_the_tasks_loss() -> None:
    result = Train(training=Training(epochs=2)).run(small_model(), make_context())
    plain = fit(small_model(), Training(epochs=2), make_context(), label="train", loss=label_loss)
    assert result.model is not None
    assert same(weights(result.model), weights(plain.model))


def test_facts_are_plain_json_with_a_line_for_each_epoch() -> None:
    result = Train(training=Training(epochs=2)).run(small_model(), make_context())
    facts = json.loads(json.dumps(result.facts))
    assert facts["epochs"] == 2
    assert facts["best_epoch"] in (1, 2)
    assert [line["number"] for line in facts["history"]] == [1, 2]
    figures = {"number", "lr", "train_loss", "metric", "validation_loss", "gradient_error"}
    assert facts["history"][0].keys() == figures


def test_it_takes_models_in_any_form_and_quantized_ones_stay_quantized() -> None:
    assert Train.forms == {
        Form.UNTRAINED: Form.FLOAT,
        Form.FLOAT: Form.FLOAT,
        Form.QUANTIZED: Form.QUANTIZED,
    }
