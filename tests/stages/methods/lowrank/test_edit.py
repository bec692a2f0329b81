"""The edit: replayed on a fresh architecture, together with cuts, masks and quantizers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mcomp.errors import StageError
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.edits import Masks
from mcomp.model.model import Model
from mcomp_stages.methods.lowrank.decompose import decomposed, require_equal_to_products
from mcomp_stages.methods.lowrank.edit import Factorized, LowRank
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.models.resnet import ResNetConfig
from tests.architectures import NetConfig, example

EDIT = LowRank(
    layers=(
        Factorized(module="features.0", ranks=(3, 8)),
        Factorized(module="features.4", ranks=(8, 24)),
        Factorized(module="features.8", ranks=(8, 16)),
        Factorized(module="classifier.0", ranks=(16,)),
    )
)


def model_of(name: str = "vgg") -> Model:
    torch.manual_seed(0)
    config = NetConfig(name=name)
    return Model(config.build().eval(), config)


def outputs(model: Model) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.module.eval()(**example())
    return found


def test_thin_layers_compute_the_product_of_their_weights() -> None:
    model = model_of()
    thin = decomposed(model, EDIT)
    require_equal_to_products(thin, model, EDIT, example())
    names = [name for name, _ in thin.module.get_submodule("features.0").named_children()]
    assert names == ["core", "restore"]  # all three inputs are used as they are
    assert [*thin.module.get_submodule("features.4")._modules] == ["reduce", "core"]


def test_full_ranks_compute_what_the_layer_did() -> None:
    torch.manual_seed(0)
    config = ResNetConfig(depth=50, width=8, in_channels=3, num_classes=5)
    model = Model(config.build().eval(), config)
    edit = LowRank(
        layers=(
            Factorized(module="layer2.0.downsample.0", ranks=(32,)),
            Factorized(module="layer2.0.conv2", ranks=(16, 16)),
            Factorized(module="fc", ranks=(5,)),
        )
    )
    with torch.no_grad():
        before, after = (each.module(**example(32)) for each in (model, decomposed(model, edit)))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_wrong_factors_are_noticed() -> None:
    model = model_of()
    thin = decomposed(model, EDIT)
    with torch.no_grad():
        thin.module.get_parameter("classifier.0.restore.bias").add_(0.1)
    with pytest.raises(StageError, match="does not compute what their products compute"):
        require_equal_to_products(thin, model, EDIT, example())


def test_a_saved_model_is_the_same_to_the_bit(tmp_path: Path) -> None:
    config = ResNetConfig(depth=20, width=8, in_channels=3, num_classes=5)
    edit = LowRank(layers=(Factorized(module="layer3.1.conv2", ranks=(8, 16)),))
    thin = decomposed(Model(config.build().eval(), config), edit)
    save_model(thin, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.edits == thin.edits
    assert torch.equal(outputs(loaded), outputs(thin))


def test_masked_layers_are_refused_and_others_keep_their_masks() -> None:
    masked = model_of().edited(Masks(names=("classifier.0.weight", "classifier.4.weight")))
    with pytest.raises(ValueError, match=r"classifier.0 has masked weights, which a product would fill"):
        masked.edited(EDIT)
    thin = decomposed(masked, LowRank(layers=EDIT.layers[:3]))
    assert set(thin.state) == {"masks.classifier.0.weight", "masks.classifier.4.weight"}


def test_thin_weights_may_be_masked_afterwards() -> None:
    masked = decomposed(model_of(), EDIT).edited(Masks(names=("classifier.0.reduce.weight",)))
    assert masked.state["masks.classifier.0.reduce.weight"].shape == (16, 128)


def test_quantizers_come_last() -> None:
    quantized = decomposed(model_of(), EDIT).edited(Quantizers())
    with pytest.raises(ValueError, match="the structure cannot change after quantizers"):
        quantized.edited(EDIT)


@pytest.mark.parametrize(
    ("module", "ranks", "message"),
    [
        ("features.4", (8, 25), r"has ranks up to \(16, 24\), not \(8, 25\)"),
        ("classifier.0", (41,), r"has ranks up to \(40,\), not \(41,\)"),
        ("classifier.0", (4, 4), "has ranks up to"),
        ("classifier.1", (4,), "is a BatchNorm1d, not a linear or a convolution"),
        ("nothing", (4,), "there is no module nothing"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(module: str, ranks: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_of().edited(LowRank(layers=(Factorized(module=module, ranks=ranks),)))


@pytest.mark.parametrize(
    ("module", "path", "reason"),
    [
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), "0", "is a grouped convolution"),
        (nn.TransformerEncoderLayer(8, 2, 16), "linear1", "reads on its own"),
    ],
)
def test_layers_that_cannot_be_factorized_say_why(module: nn.Module, path: str, reason: str) -> None:
    edit = LowRank(layers=(Factorized(module=path, ranks=(2, 2)),))
    with pytest.raises(ValueError, match=reason):
        edit.apply(module, {})


def test_tied_weights_are_refused() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    module[1].weight = module[0].weight
    with pytest.raises(ValueError, match="shares its weight with another layer"):
        LowRank(layers=(Factorized(module="0", ranks=(2,)),)).apply(module, {})
