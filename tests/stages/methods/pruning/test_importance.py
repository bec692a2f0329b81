"""Scores against slow and obvious ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mcomp.data.contract import Batch
from mcomp.errors import StageError
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.group_records import Groups
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.methods.pruning.scores import IMPORTANCE, NORMALIZATION, channel_importance
from tests.architectures import NETS, example


def pictures(num_batches: int = 2) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(num_batches):
        image = torch.randn(4, 3, 16, 16, generator=generator)
        yield Batch(torch.arange(4), {"image": image}, torch.tensor([0, 1, 2, 3]))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    vgg = NETS["vgg"]().eval()
    for part in vgg.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, -1.0, 1.0)
    return vgg


@pytest.fixture(scope="module")
def groups(net: nn.Module) -> Groups:
    return channel_groups(net, example())


@pytest.fixture
def evidence(net: nn.Module) -> Evidence:
    return Evidence(net, batches=pictures, loss=functional.cross_entropy)


def slices(groups: Groups, group: int, tensors: dict[str, Tensor]) -> Iterator[Tensor]:
    """Every slice of one group, one index at a time."""
    for axis in groups.axes:
        for index, member in enumerate(axis.groups.tolist()):
            if member == group and axis.name in tensors:
                yield tensors[axis.name].detach().double().select(axis.axis, index)


def gradient_of(net: nn.Module, batch: Batch) -> dict[str, Tensor]:
    net.zero_grad()
    functional.cross_entropy(net(**batch.inputs), batch.target).backward()
    return {name: parameter.grad.clone() for name, parameter in net.named_parameters()}


def slow_l1(net: nn.Module, groups: Groups, group: int) -> float:
    return sum(float(each.abs().sum()) for each in slices(groups, group, dict(net.named_parameters())))


def slow_l2(net: nn.Module, groups: Groups, group: int) -> float:
    return sum(float((each**2).sum()) for each in slices(groups, group, dict(net.named_parameters()))) ** 0.5


def slow_fpgm(net: nn.Module, groups: Groups, group: int) -> float:
    (members,) = (each.groups for each in groups.sets if group in each.groups)
    layer = next(axis for axis in groups.axes if axis.output and group in axis.groups)
    weight = net.get_parameter(layer.name).detach().double()
    filters = [weight[layer.groups.tolist().index(member)] for member in members]
    return sum(float((filters[members.tolist().index(group)] - other).norm()) for other in filters)


def slow_bn_scale(net: nn.Module, groups: Groups, group: int) -> float:
    layer = next(axis for axis in groups.axes if axis.output and group in axis.groups)
    parent, _, position = layer.name.rpartition(".")[0].rpartition(".")
    norm = net.get_submodule(f"{parent}.{int(position) + 1}")
    return abs(float(norm.weight.detach()[layer.groups.tolist().index(group)]))


def slow_taylor(net: nn.Module, groups: Groups, group: int) -> float:
    squares = []
    for batch in pictures():
        gradient = gradient_of(net, batch)
        products = {name: gradient[name] * parameter for name, parameter in net.named_parameters()}
        squares.append(sum(float(each.sum()) for each in slices(groups, group, products)) ** 2)
    return float(np.mean(squares))


def slow_obd(net: nn.Module, groups: Groups, group: int) -> float:
    losses = []
    for batch in pictures():
        for at in range(4):
            one = Batch(batch.indices, {"image": batch.inputs["image"][[at]]}, batch.target[[at]])
            gradient = gradient_of(net, one)
            squares = {name: (gradient[name] * each) ** 2 / 2 for name, each in net.named_parameters()}
            losses.append(sum(float(each.sum()) for each in slices(groups, group, squares)))
    return float(np.mean(losses))


def slow_apoz(net: nn.Module, groups: Groups, group: int) -> float:
    layer = next(axis for axis in groups.axes if axis.output and group in axis.groups)
    parent, _, position = layer.name.rpartition(".")[0].rpartition(".")
    seen: list[Tensor] = []
    relu = net.get_submodule(f"{parent}.{int(position) + 2}")
    handle = relu.register_forward_hook(lambda part, inputs, output: seen.append(output.clone()))
    with torch.no_grad():
        for batch in pictures():
            net(**batch.inputs)
    handle.remove()
    outputs = torch.cat(seen)
    return float((outputs[:, layer.groups.tolist().index(group)] > 0).double().mean())


SLOW: dict[str, Callable[[nn.Module, Groups, int], float]] = {
    "l1": slow_l1,
    "l2": slow_l2,
    "fpgm": slow_fpgm,
    "bn_scale": slow_bn_scale,
    "taylor": slow_taylor,
    "obd": slow_obd,
    "apoz": slow_apoz,
}


@pytest.mark.parametrize("importance", SLOW)
def test_scores_are_those_of_the_slow_way(
    net: nn.Module, groups: Groups, evidence: Evidence, importance: str
) -> None:
    scores = IMPORTANCE[importance](groups, evidence)
    for group in range(0, groups.num_groups, 11):
        assert scores[group] == pytest.approx(SLOW[importance](net, groups, group), rel=1e-4, abs=1e-12)


def test_every_importance_has_a_slow_one() -> None:
    assert {*SLOW, "random"} == set(IMPORTANCE)


def test_random_scores_depend_on_the_generator_alone(net: nn.Module, groups: Groups) -> None:
    def scores(seed: int) -> list[float]:
        evidence = Evidence(net, torch.Generator().manual_seed(seed))
        return channel_importance(groups, evidence, "random").tolist()

    assert scores(1) == scores(1) != scores(2)


def test_scores_leave_weights_gradients_and_mode_alone(
    net: nn.Module, groups: Groups, evidence: Evidence
) -> None:
    net.zero_grad()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for importance in IMPORTANCE:
        channel_importance(groups, evidence, importance)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_what_an_importance_cannot_see_has_no_score() -> None:
    unet = NETS["unet"]()
    groups = channel_groups(unet, example())
    assert np.isnan(channel_importance(groups, Evidence(unet), "bn_scale")).all()
    vit = NETS["vit"]()
    groups = channel_groups(vit, example())
    scores = channel_importance(groups, Evidence(vit, batches=pictures), "apoz")
    for group_set in groups.sets:
        assert np.isnan(scores[group_set.groups]).all() == (group_set.unit != "neurons")


def test_without_samples_there_is_an_error(net: nn.Module, groups: Groups) -> None:
    for importance in ("taylor", "obd", "apoz"):
        with pytest.raises(StageError, match="there are no samples"):
            channel_importance(groups, Evidence(net, loss=functional.cross_entropy), importance)


def test_a_gradient_that_is_not_finite_is_an_error(net: nn.Module, groups: Groups) -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output, target) * float("nan")

    with pytest.raises(StageError, match="is not finite"):
        channel_importance(groups, Evidence(net, batches=pictures, loss=loss), "taylor")


@pytest.mark.parametrize("importance", ["l1", "l2", "random", "fpgm"])
def test_every_set_has_mean_one(groups: Groups, evidence: Evidence, importance: str) -> None:
    scores = channel_importance(groups, evidence, importance)
    for group_set in groups.sets:
        assert scores[group_set.groups].mean() == pytest.approx(1.0)


def test_weights_that_are_all_zero_do_not_divide_by_zero(groups: Groups) -> None:
    for normalization in NORMALIZATION:
        scores = NORMALIZATION[normalization](np.zeros(groups.num_groups), groups)
        assert np.isfinite(scores).all()


def test_lamp_is_the_share_in_all_that_are_not_smaller(groups: Groups, evidence: Evidence) -> None:
    plain = channel_importance(groups, evidence, "l2", "none")
    scores = channel_importance(groups, evidence, "l2", "lamp")
    for group_set in groups.sets:
        squares = plain[group_set.groups] ** 2
        for group, square in zip(group_set.groups, squares, strict=True):
            assert scores[group] == pytest.approx(square / squares[squares >= square].sum())
        assert scores[group_set.groups].max() == 1.0


def test_every_normalization_keeps_the_order_within_a_set(groups: Groups, evidence: Evidence) -> None:
    plain = channel_importance(groups, evidence, "l2", "none")
    for normalization in NORMALIZATION:
        scores = channel_importance(groups, evidence, "l2", normalization)
        for group_set in groups.sets:
            order = np.argsort(plain[group_set.groups])
            assert (np.diff(scores[group_set.groups][order]) > 0).all()


def test_uniform_scores_are_the_same_shares_in_every_set(groups: Groups, evidence: Evidence) -> None:
    scores = channel_importance(groups, evidence, "l2", scope="uniform")
    for group_set in groups.sets:
        size = len(group_set.groups)
        assert np.sort(scores[group_set.groups]) == pytest.approx((np.arange(size) + 0.5) / size)


def test_isomorphic_sets_are_ranked_together() -> None:
    torch.manual_seed(0)
    net = NETS["mbconv"]()
    groups = channel_groups(net, example())
    scores = channel_importance(groups, Evidence(net), "l2", "isomorphic")
    wide = [each.groups for each in groups.sets if len(each.groups) == 48]
    assert len(wide) == 2
    assert np.sort(scores[np.concatenate(wide)]) == pytest.approx((np.arange(96) + 0.5) / 96)
