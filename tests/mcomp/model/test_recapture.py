"""A graph that is used again is what capturing again would give; whatever could change it is seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import mcomp.model.graph
from mcomp.data.contract import VaryingSize
from mcomp.model.example import Example
from mcomp.model.graph import capture, captured_anew, set_training
from mcomp.model.recapture import MOST_KEPT, Captures, Kept, dependencies
from tests.architectures import NETS, example


@pytest.fixture(autouse=True)
def captures(monkeypatch: pytest.MonkeyPatch) -> Captures:
    """Nothing that other tests captured."""
    fresh = Captures()
    monkeypatch.setattr(mcomp.model.graph, "CAPTURES", fresh)
    return fresh


class Net(nn.Module):
    """Small, with a setting, a buffer and a constant of its forward."""

    def __init__(self, width: int = 4, power: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, width))
        self.power = power
        self.register_buffer("shift", torch.randn(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) ** self.power + self.shift + torch.tensor([0.5])


X = {"x": torch.arange(6.0).reshape(2, 3)}


def listed(graph_module: torch.fx.GraphModule) -> list[str]:
    """Return the graph in lines, with the module that each call belongs to."""
    nodes = graph_module.graph.nodes
    return [f"{node.format_node()} {list(node.meta.get('nn_module_stack') or ())}" for node in nodes]


QUICKLY = ("tied", "mlp", "shuffle")
SLOWLY = [pytest.param(name, marks=pytest.mark.slow) for name in NETS if name not in (*QUICKLY, "fixed_size")]


@pytest.mark.parametrize("name", [*QUICKLY, *SLOWLY])
@pytest.mark.parametrize("dynamic_batch", [True, False])
def test_a_graph_used_again_is_what_capturing_again_gives(
    name: str, dynamic_batch: bool, captures: Captures
) -> None:
    capture(NETS[name](), example(), dynamic_batch=dynamic_batch)
    other, inputs = NETS[name]().eval(), example()
    again = capture(other, inputs, dynamic_batch=dynamic_batch)
    anew = captured_anew(other, inputs, dynamic_batch)
    assert len(captures.kept) == 1
    assert listed(again) == listed(anew)
    with torch.no_grad():
        assert torch.equal(again(**inputs), anew(**inputs))
        assert torch.equal(again(**inputs), other(**inputs))


def test_one_structure_is_captured_once(captures: Captures, monkeypatch: pytest.MonkeyPatch) -> None:
    capture(Net(), X)
    monkeypatch.delattr(torch.export, "export")
    capture(Net(), X)
    assert len(captures.kept) == 1


def test_training_a_graph_used_again_trains_its_own_module() -> None:
    first, second = Net(), Net()
    graphs = [capture(net, X) for net in (first, second)]
    before = {name: value.clone() for name, value in first.state_dict().items()}
    set_training(graphs[1], True)
    graphs[1](**X).sum().backward()
    with torch.no_grad():
        for parameter in graphs[1].parameters():
            parameter -= 0.1 * parameter.grad
    assert all(torch.equal(before[name], value) for name, value in first.state_dict().items())
    assert torch.equal(graphs[1].get_parameter("layers.2.weight"), second.layers[2].weight)
    assert not torch.equal(before["layers.1.running_mean"], second.layers[1].running_mean)


def test_what_one_user_does_to_a_graph_the_next_does_not_see() -> None:
    net = Net()
    first = capture(net, X)
    expected = listed(first)
    set_training(first, True)
    for node in reversed(first.graph.nodes):
        if node.op == "call_function":
            node.replace_all_uses_with(node.args[0])
            first.graph.erase_node(node)
    assert listed(capture(net, X)) == expected


def with_hook(net: nn.Module) -> None:
    net.layers[0].register_forward_hook(lambda module, args, output: 2 * output)


def with_tied_weights(net: nn.Module) -> None:
    net.layers[2].bias = net.layers[0].bias


def with_a_layer_of_another_class(net: nn.Module) -> None:
    net.layers[1] = nn.Identity()


def frozen(net: nn.Module) -> None:
    net.layers[0].weight.requires_grad_(False)


def with_another_setting(net: nn.Module) -> None:
    net.power = 2.0


def with_a_setting_of_another_type(net: nn.Module) -> None:
    net.power = 1


def with_another_epsilon(net: nn.Module) -> None:
    net.layers[1].eps = 0.5


def in_double(net: nn.Module) -> None:
    net.double()


@pytest.mark.parametrize(
    "change",
    [
        with_hook,
        with_tied_weights,
        with_a_layer_of_another_class,
        frozen,
        with_another_setting,
        with_a_setting_of_another_type,
        with_another_epsilon,
        in_double,
    ],
)
def test_whatever_can_change_a_graph_is_seen(change: Callable[[nn.Module], None]) -> None:
    net = Net()
    before = dependencies(net, X)
    change(net)
    assert dependencies(net, X) != before


def test_inputs_and_modes_are_part_of_what_a_graph_depends_on() -> None:
    net = Net()
    with torch.no_grad():
        without_gradients = dependencies(net, X)
    with torch.autocast("cpu", torch.bfloat16):
        in_bfloat16 = dependencies(net, X)
    inputs = [
        {"x": X["x"].double()},
        {"x": X["x"][:, :2]},
        Example(X, {"x": {1: VaryingSize("length", 8)}}),
        Example(X, {"x": {1: VaryingSize("length", 9)}}),
    ]
    others = [dependencies(net, each) for each in inputs]
    assert len({dependencies(net, X), without_gradients, in_bfloat16, *others}) == 7
    assert dependencies(net, Example(X)) == dependencies(net, X)


def test_weights_and_mode_are_not() -> None:
    assert dependencies(Net().eval(), X) == dependencies(Net().train(), X)


@pytest.mark.parametrize("held", [torch.ones(1), len, nn.ReLU, [object()]])
def test_no_graph_is_kept_of_a_module_that_holds_what_cannot_be_compared(
    held: object, captures: Captures
) -> None:
    net = Net()
    net.held = held
    assert dependencies(net, X) is None
    capture(net, X)
    assert not captures.kept


def test_no_weights_are_kept() -> None:
    net = Net()
    kept = Kept.of(captured_anew(net, X, True), net)
    own = {id(tensor) for tensor in (*net.parameters(), *net.buffers())}
    assert own.isdisjoint(map(id, kept.constants.values()))
    assert [value.tolist() for value in kept.constants.values()] == [[0.5]]


def test_the_graphs_that_were_longest_unused_are_given_up() -> None:
    captures, kept = Captures(), Kept.of(captured_anew(Net(), X, True), Net())
    for number in range(MOST_KEPT):
        captures.keep(number, kept)
    captures.find(0)
    captures.keep("new", kept)
    assert captures.find(0) is not None
    assert captures.find(1) is None
    assert len(captures.kept) == MOST_KEPT
