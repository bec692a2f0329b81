"""Programs of torch.export as models: the same outputs, ordinary layers, and refusals in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from mcomp.data.contract import DataFacts
from mcomp.errors import CheckpointError, RecipeError, StageError
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.model import Model
from mcomp.training.config import Training
from mcomp.training.loop import fit
from mcomp_stages.export.torch_program import ExportTorch
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.models.exported import ExportedConfig
from mcomp_stages.models.lenet5 import LeNet5Config
from mcomp_stages.models.mobilenet_v2 import MobileNetV2Config
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.models.vit import ViTConfig
from mcomp_stages.quantize.static import QuantizeStatic
from tests.mcomp.training.setting import label_loss, make_context, same, small_model, weights
from tests.stages.methods.quantization.nets import (
    GatedNet,
    GrowingNet,
    SequenceNet,
    pictures,
    with_statistics,
)

IMAGE = {"image": torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))}
SMALL = {"image": torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))}
NETS: dict[str, Any] = {
    "lenet5": lambda: LeNet5Config(in_channels=3, image_size=16, num_classes=5).build(),
    "resnet": lambda: ResNetConfig(depth=20, width=4, in_channels=3, num_classes=5).build(),
    "mobilenet_v2": lambda: MobileNetV2Config(width=0.25, in_channels=3, num_classes=5).build(),
    "vit": lambda: ViTConfig(depth=1, image_size=16, in_channels=3, num_classes=5).build(),
    "gated": GatedNet,
    "growing": GrowingNet,
    "sequence": SequenceNet,
}


def saved(path: Path, module: nn.Module, inputs: dict[str, Tensor], free: bool = True) -> Path:
    shapes = {name: {0: Dim("batch")} for name in inputs} if free else None
    torch.export.save(torch.export.export(module, (), inputs, dynamic_shapes=shapes), path)
    return path


def started(path: Path, **fields: Any) -> Model:
    spec = ExportedConfig(path=path, **fields).fitted_to(DataFacts())
    module = spec.build()
    spec.fill(module, path)
    return Model(module, spec)


def output(module: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = module(**inputs)
    return found


@pytest.mark.parametrize("name", NETS)
def test_a_program_computes_what_its_model_does_with_the_same_weights(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = with_statistics(NETS[name]()).eval()
    model = started(saved(tmp_path / "m.pt2", module, IMAGE))
    assert torch.equal(output(model.module, pictures(5)), output(module, pictures(5)))
    there = module.state_dict()
    assert all(torch.equal(tensor, there[path]) for path, tensor in model.module.state_dict().items())


def test_layers_are_those_of_torch_at_the_paths_that_they_had(tmp_path: Path) -> None:
    module = NETS["mobilenet_v2"]().eval()
    found = dict(started(saved(tmp_path / "m.pt2", module, IMAGE)).module.named_modules())
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.Dropout)
    layers = {path: each for path, each in module.named_modules() if isinstance(each, kinds)}
    assert {path: repr(each) for path, each in layers.items()} == {path: repr(found[path]) for path in layers}


def test_what_export_torch_writes_is_a_model_to_start_from(tmp_path: Path) -> None:
    context = replace(make_context(), folder=tmp_path)
    ExportTorch().run(small_model(), context)
    model = started(tmp_path / "model.pt2")
    assert same(weights(model), weights(small_model()))
    assert torch.equal(output(model.module, SMALL), output(small_model().module, SMALL))


def test_it_trains_and_is_quantized_like_the_model_it_came_from(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt2", small_model().module, SMALL)
    context = make_context()
    results = []
    for model in (started(path), small_model()):
        trained = fit(model, Training(epochs=1), context, label="train", loss=label_loss).model
        quantized = QuantizeStatic(samples=32).run(trained, context).model
        assert quantized is not None
        results.append((weights(trained), output(quantized.inference_module(context.example), SMALL)))
    assert same(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_a_cut_of_channels_is_refused_in_words(tmp_path: Path) -> None:
    model = started(saved(tmp_path / "m.pt2", small_model().module, SMALL))
    with pytest.raises(StageError, match="cut the model that it was captured from"):
        channel_groups(model.module, SMALL)


def test_a_result_needs_the_file_no_more(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt2", small_model().module, SMALL)
    save_model(started(path), tmp_path / "kept")
    path.unlink()
    loaded = load_model(tmp_path / "kept")
    assert torch.equal(output(loaded.module, SMALL), output(small_model().module, SMALL))


def test_inputs_may_be_called_as_the_data_calls_them(tmp_path: Path) -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.relu(x) + 1

    path = saved(tmp_path / "m.pt2", Named(), {"x": torch.randn(2, 3)})
    model = started(path, inputs={"x": "features"})
    assert output(model.module, {"features": torch.ones(4, 3)}).tolist() == [[2.0] * 3] * 4
    with pytest.raises(RecipeError, match="has no input y; it takes x"):
        started(path, inputs={"y": "features"})


def test_weights_of_another_file_may_fill_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt2", small_model().module, SMALL)
    other = small_model(seed=1)
    torch.save(other.module.state_dict(), tmp_path / "w.pt")
    spec = ExportedConfig(path=path, checkpoint=str(tmp_path / "w.pt")).fitted_to(DataFacts())
    module = spec.build()
    spec.fill(module, tmp_path / "w.pt")
    assert same(module.state_dict(), weights(other))


def test_what_is_no_model_in_inference_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"for one number of samples only; .*dynamic_shapes=\{'image'"):
        started(saved(tmp_path / "a.pt2", small_model().module, SMALL, free=False))
    with pytest.raises(RecipeError, match=r"exported in training mode: export model\.eval\(\)"):
        started(saved(tmp_path / "b.pt2", small_model().module.train(), SMALL))
    with pytest.raises(ValueError, match=r"needs the path of a \.pt2 file"):
        ExportedConfig()


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    spec = ExportedConfig(path=saved(tmp_path / "m.pt2", small_model().module, SMALL)).fitted_to(DataFacts())
    module = nn.Conv1d(4, 5, 6)
    other = saved(tmp_path / "o.pt2", nn.Sequential(module).eval(), {"input": torch.randn(2, 4, 9)})
    with pytest.raises(CheckpointError, match="does not fit the model"):
        spec.fill(spec.build(), other)
