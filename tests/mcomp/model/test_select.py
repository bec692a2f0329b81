"""Patterns over module paths."""

from __future__ import annotations

import pytest
from torch import nn

from mcomp.errors import StageError
from mcomp.model.select import select_modules


@pytest.fixture
def module() -> nn.Module:
    block = nn.ModuleDict({"conv1": nn.Identity(), "conv2": nn.Identity()})
    return nn.ModuleDict(
        {"layer1": nn.ModuleList([block]), "layer2": nn.ModuleList([block]), "fc": nn.Identity()}
    )


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        (["layer*.conv1"], ("layer1.0.conv1",)),
        (["fc", "layer1.0.conv?"], ("layer1.0.conv1", "layer1.0.conv2", "fc")),
        (["layer[2]"], ("layer2",)),
        ([], ()),
    ],
)
def test_paths_come_in_the_order_of_the_module(
    module: nn.Module, patterns: list[str], paths: tuple[str, ...]
) -> None:
    assert select_modules(module, patterns) == paths


def test_a_pattern_without_match_names_the_nearest(module: nn.Module) -> None:
    with pytest.raises(StageError, match=r"no module matches 'layer1.0.con1'; did you mean 'layer1.0.conv1'"):
        select_modules(module, ["fc", "layer1.0.con1"])


def test_case_matters(module: nn.Module) -> None:
    with pytest.raises(StageError, match="no module matches 'FC'"):
        select_modules(module, ["FC"])
