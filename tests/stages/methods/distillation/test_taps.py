from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.graph import capture
from mcomp_stages.methods.distillation.proposals import example_features, feature_shapes, proposed_taps
from mcomp_stages.methods.distillation.taps import Taps
from mcomp_stages.methods.distillation.terms import Tap
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.models.vit import ViTConfig
from tests.mcomp.training.setting import small_data, small_model

EXAMPLE = {"image": torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))}


def resnet(width: int = 4, depth: int = 20) -> nn.Module:
    torch.manual_seed(0)
    return ResNetConfig(depth=depth, width=width, in_channels=1, num_classes=3).build().eval()


def by_hand(module: nn.Module) -> Tensor:
    """Return what layer2 of a ResNet gives."""
    found: list[Tensor] = []
    handle = module.get_submodule("layer2").register_forward_hook(lambda _, __, output: found.append(output))
    with torch.no_grad():
        module(**EXAMPLE)
    handle.remove()
    return found[0]


def test_plain_and_captured_models_give_the_same_features() -> None:
    module = resnet()
    plain = example_features(module, ["layer2", "layer1.0.conv1"], EXAMPLE)
    graph = capture(module, EXAMPLE)
    captured = example_features(graph, ["layer2", "layer1.0.conv1"], EXAMPLE)
    assert torch.allclose(plain["layer2"], by_hand(module))
    for path, value in plain.items():
        assert torch.allclose(captured[path], value, atol=1e-6)


def test_asking_for_an_example_leaves_no_tap() -> None:
    module = resnet()
    graph = capture(module, EXAMPLE)
    before = graph.code
    for asked in (module, graph):
        example_features(asked, ["layer2"], EXAMPLE)
    assert not any(part._forward_hooks for part in module.modules())
    assert graph.code == before


def test_gradients_flow_through_a_tap_in_a_captured_graph() -> None:
    module = resnet()
    graph = capture(module, EXAMPLE)
    taps = Taps(graph, ["layer1"])
    graph(**EXAMPLE)
    taps.features()["layer1"].sum().backward()
    assert module.get_parameter("layer1.0.conv1.weight").grad is not None
    assert module.get_parameter("layer2.0.conv1.weight").grad is None


def test_features_are_those_of_the_last_call_and_are_given_up() -> None:
    module = resnet()
    taps = Taps(module, ["layer1"])
    module(torch.zeros(2, 1, 12, 12))
    module(**EXAMPLE)
    assert torch.allclose(
        taps.features()["layer1"], example_features(resnet(), ["layer1"], EXAMPLE)["layer1"]
    )
    with pytest.raises(StageError, match="does not call it"):
        taps.features()


@pytest.mark.parametrize("captured", [False, True])
def test_a_path_that_is_none_is_answered_with_the_nearest(captured: bool) -> None:
    module = capture(resnet(), EXAMPLE) if captured else resnet()
    with pytest.raises(StageError, match=r"no module is called 'layr2'; did you mean 'layer2'"):
        Taps(module, ["layr2"])


class Tupled(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor, int]:
        return image * 2, 1


def test_of_several_outputs_the_first_tensor_is_tapped() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Tupled()

        def forward(self, image: Tensor) -> Tensor:
            found: Tensor = self.part(image)[0]
            return found.sum((1, 2, 3))

    assert torch.equal(example_features(Net(), ["part"], EXAMPLE)["part"], EXAMPLE["image"] * 2)


def test_maps_are_paired_by_their_size() -> None:
    taps = proposed_taps(resnet(4), resnet(8, depth=32), EXAMPLE)
    assert taps == (
        Tap(student="layer1", teacher="layer1"),
        Tap(student="layer2", teacher="layer2"),
        Tap(student="layer3", teacher="layer3"),
    )


def test_a_captured_student_is_paired_as_a_plain_one() -> None:
    captured = proposed_taps(capture(resnet(4), EXAMPLE), resnet(8), EXAMPLE)
    assert captured == proposed_taps(resnet(4), resnet(8), EXAMPLE)


def test_blocks_of_tokens_are_paired_by_their_depth() -> None:
    def vit(layers: int, width: int) -> nn.Module:
        config = ViTConfig.model_validate(
            {"depth": layers, "width": width, "heads": 2, "patch": 4, "image_size": 12,
             "in_channels": 1, "num_classes": 3}
        )  # fmt: skip
        return config.build().eval()

    taps = proposed_taps(vit(2, 8), vit(4, 16), EXAMPLE)
    assert [(tap.student[-1], tap.teacher[-1]) for tap in taps] == [("0", "1"), ("1", "3")]


def test_models_without_features_of_like_shape_are_refused_with_the_shapes() -> None:
    student = small_model().module
    example = {"image": small_data().split("train").inputs["image"][:2]}

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(36, 3)

        def forward(self, image: Tensor) -> Tensor:
            logits: Tensor = self.fc(image.flatten(1))
            return logits

    with pytest.raises(StageError, match=r"say `taps` \(the student has conv \(4, 6, 6\).*teacher fc \(3,\)"):
        proposed_taps(student, Flat(), example)


def test_shapes_come_in_the_order_in_which_modules_are_done() -> None:
    shapes = feature_shapes(resnet(), EXAMPLE)
    names = list(shapes)
    assert names.index("layer1.2") < names.index("layer1") < names.index("layer2.0.conv1")
    assert shapes["layer3"] == (16, 3, 3)
