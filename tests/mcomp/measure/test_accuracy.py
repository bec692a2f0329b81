from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mcomp.measure.accuracy import evaluate, evaluate_file, in_inference_mode
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.model.graph import capture, set_training
from tests.mcomp.measure.files import IMAGE, float_classifier
from tests.mcomp.measure.problems import Classes, Images, Numbers


class Echo(nn.Module):
    """Answers class 1 for every sample, with a logit of 2."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([0.0, 2.0, 0.0, 0.0]).expand(len(x), -1)


class Noisy(nn.Module):
    """A convolution, batch norm and dropout: three reasons to care for the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(self.conv(x))).flatten(1)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_every_sample_counts_once_whatever_the_batch_size(batch_size: int) -> None:
    split = Images(torch.tensor([1, 1, 1, 0, 2, 1, 1]))
    evaluation = evaluate(Echo(), split, Classes(), batch_size=batch_size)
    assert evaluation.metric == pytest.approx(5 / 7)
    right, wrong = -torch.tensor([2.0, 0.0]) + torch.tensor([2.0, 0.0, 0.0, 0.0]).logsumexp(0)
    assert evaluation.loss == pytest.approx(float((5 * right + 2 * wrong) / 7))


def test_batch_norm_and_dropout_stay_out_of_an_evaluation() -> None:
    module, split = Noisy(), Images(torch.tensor([0, 1, 2, 3]))
    module.train()
    module.norm.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    losses = [evaluate(module, split, Classes(), batch_size=size).loss for size in (4, 2)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert (module.training, module.norm.training, module.drop.training) == (True, False, True)


def test_a_captured_graph_is_evaluated_in_inference_and_goes_on_training() -> None:
    graph = capture(Noisy(), {"x": torch.randn(2, *IMAGE)})
    images = torch.randn(4, *IMAGE)
    expected = graph(x=images)
    set_training(graph, True)
    with in_inference_mode(graph):
        assert torch.equal(graph(x=images), expected)
    assert not torch.equal(graph(x=images), expected)


def test_a_captured_graph_in_inference_stays_there() -> None:
    graph = capture(Noisy(), {"x": torch.randn(2, *IMAGE)})
    images = torch.randn(4, *IMAGE)
    expected = graph(x=images)
    with in_inference_mode(graph):
        pass
    assert torch.equal(graph(x=images), expected)


def test_the_mode_comes_back_when_an_evaluation_fails() -> None:
    module = Noisy().train()
    with pytest.raises(ZeroDivisionError), in_inference_mode(module):
        raise ZeroDivisionError
    assert module.drop.training


def test_a_file_gets_the_metric_of_the_answers_its_runtime_gives(tmp_path: Path) -> None:
    session = OnnxSession(float_classifier(tmp_path / "m.onnx"))
    images = Images(torch.zeros(12, dtype=torch.long)).x
    answers = torch.from_numpy(session.run({"x": images.numpy()})).argmax(1)
    right = Images(answers)
    assert evaluate_file(session, right, Classes(), batch_size=5).metric == 1
    half_wrong = answers.clone()
    half_wrong[:6] = (half_wrong[:6] + 1) % 4
    quality = evaluate_file(session, Images(half_wrong), Classes(), batch_size=5)
    assert quality.metric == pytest.approx(0.5)
    shares = [(float((answers[half_wrong == c] == c).double().mean())) for c in half_wrong.unique().tolist()]
    assert [share for share in quality.per_class if share is not None] == pytest.approx(shares)


def test_a_metric_that_is_no_accuracy_is_the_tasks_own() -> None:
    split = Images(torch.tensor([3.0, 5.0]))
    evaluation = evaluate(Constant(), split, Numbers())
    assert (evaluation.metric, evaluation.loss) == (2.0, 5.0)


class Constant(nn.Module):
    """Answers 2."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), 2.0)
