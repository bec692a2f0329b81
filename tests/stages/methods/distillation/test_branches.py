from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp_stages.methods.distillation.branches import Branched, branch_paths, shared_paths
from mcomp_stages.models.resnet import ResNetConfig

IMAGE = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
OWN = ["layer3", "fc"]


def resnet(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return ResNetConfig(depth=20, width=4, in_channels=1, num_classes=3).build().eval()


def branched(num: int = 3) -> Branched:
    student = resnet(0)
    own = branch_paths(student, OWN)
    torch.manual_seed(9)
    return Branched(student, own, [resnet(seed) for seed in range(1, num)], {"image": IMAGE}, 10)


def test_the_largest_modules_outside_of_the_branches_are_shared() -> None:
    assert shared_paths(resnet(0), branch_paths(resnet(0), OWN))[-2:] == ("layer1", "layer2")


def whole(seed: int) -> nn.Module:
    """Return the network that a branch stands for: the trunk of the student, the rest of another."""
    made, other = resnet(0), resnet(seed)
    for path in OWN:
        made.get_submodule(path).load_state_dict(other.get_submodule(path).state_dict())
    return made


def test_every_branch_answers_as_the_whole_network_that_it_stands_for() -> None:
    together = branched().eval()
    for number in range(3):
        together.speaker = number
        with torch.no_grad():
            assert torch.allclose(together(image=IMAGE), whole(number)(IMAGE), atol=1e-6)
            made = resnet(0)
            made.load_state_dict(together.chosen(number), strict=False)
            assert torch.allclose(made(IMAGE), whole(number)(IMAGE), atol=1e-6)


def test_the_trunk_is_computed_once_and_branches_each() -> None:
    together = branched().train()
    calls: Counter[str] = Counter()

    def count(name: str) -> Any:
        return lambda *_: calls.update([name])

    together.student.get_submodule("layer1.0.conv1").register_forward_hook(count("trunk"))
    for peer in together.peers():
        peer.get_submodule("layer3.0.conv1").register_forward_hook(count("branch"))
    outputs, gates = together(image=IMAGE)
    assert calls == {"trunk": 1, "branch": 3}
    assert len(outputs) == 3
    assert gates.shape == (4, 3)
    assert torch.allclose(gates.sum(dim=1), torch.ones(4))


def test_the_trunk_learns_from_all_branches_and_a_branch_from_itself() -> None:
    together = branched(2).train()
    outputs, _ = together(image=IMAGE)
    trunk = together.student.get_parameter("layer1.0.conv1.weight")
    gradients = [
        torch.autograd.grad(output.square().sum(), trunk, retain_graph=True)[0] for output in outputs
    ]
    assert all(bool(each.any()) for each in gradients)
    own = together.student.get_parameter("fc.weight")
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(outputs[1].sum(), own)


def test_weights_of_the_trunk_are_trained_once() -> None:
    together = branched()
    num_trunk = sum(each.numel() for each in resnet(0).parameters())
    num_own = sum(each.numel() for path in OWN for each in resnet(0).get_submodule(path).parameters())
    num_gate = sum(each.numel() for each in together.gate.parameters())
    assert sum(each.numel() for each in together.parameters()) == num_trunk + 2 * num_own + num_gate


@pytest.mark.parametrize(
    ("patterns", "told"), [(["*"], "every weight"), (["layr3"], "did you mean 'layer3'")]
)
def test_branches_that_are_all_or_nothing_are_refused(patterns: list[str], told: str) -> None:
    with pytest.raises(StageError, match=told):
        branch_paths(resnet(0), patterns)


class Container(nn.Module):
    """Holds a weight itself, as a class token is held."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(3))
        self.trunk = nn.Linear(3, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.head(self.trunk(image) + self.token)
        return answer


def test_what_a_container_holds_itself_is_shared() -> None:
    student, other = Container(), Container()
    together = Branched(student, ["head"], [other], {"image": torch.ones(2, 3)}, 1)
    names = [name for name, _ in together.named_parameters()]
    assert [name for name in names if "token" in name] == ["student.token"]


def test_released_the_student_has_no_hooks() -> None:
    together = branched()
    together.release()
    parts = together.student.modules()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in parts)
