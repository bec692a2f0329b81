"""Stand-ins with the same calls: timm and torchvision import only beside the torch they are built for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from mcomp.data.contract import DataFacts
from mcomp.errors import CheckpointError, RecipeError, StageError
from mcomp.model.spec import ModelConfig
from mcomp_stages.models.timm import TimmConfig
from mcomp_stages.models.torchvision import TorchvisionConfig

NETWORK = """
from torch import nn

class Net(nn.Module):
    def __init__(self, channels, classes, double=False):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(channels, 4, 3), nn.Linear(4, classes)
        self.double = double

    def forward(self, x):
        y = self.fc(self.conv(x).mean((2, 3)))
        return (y, y) if self.double else y
"""
TIMM = """
def create_model(model_name, pretrained=False, in_chans=3, num_classes=1000, **kwargs):
    assert not pretrained
    if model_name != "net":
        raise RuntimeError(f"Unknown model ({model_name})")
    return Net(in_chans, num_classes, **kwargs)
"""
TORCHVISION = """
def get_model(name, weights=None, num_classes=1000, **config):
    assert weights is None
    if name != "net":
        raise ValueError(f"Unknown model {name}")
    return Net(3, num_classes, **config)
"""
BROKEN = 'raise RuntimeError("operator torchvision::nms does not exist")'
FACTS = DataFacts(channels=3, num_classes=5)
CONFIGS: dict[str, type[ModelConfig]] = {"timm": TimmConfig, "torchvision": TorchvisionConfig}
FILES = {"timm": "timm/__init__.py", "torchvision": "torchvision/models.py"}
CODE = {"timm": NETWORK + TIMM, "torchvision": NETWORK + TORCHVISION}

Library = Callable[[str, str], None]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """Write a library with this code where Python finds it, and forget it afterwards."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, code: str) -> None:
        file = tmp_path / FILES[name]
        file.parent.mkdir()
        (file.parent / "__init__.py").touch()
        file.write_text(code)

    forget()
    yield write
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in CONFIGS]:
        del sys.modules[name]


def config(kind: str, **fields: object) -> ModelConfig:
    return CONFIGS[kind].model_validate({"type": kind, "name": "net", **fields})


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_model_takes_images_by_name_and_has_the_sizes_of_the_data(kind: str, library: Library) -> None:
    library(kind, CODE[kind])
    module = config(kind).fitted_to(FACTS).build()
    assert module(image=torch.zeros(2, 3, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize("kind", CONFIGS)
def test_weights_fit_under_the_names_of_the_library_and_under_ours(
    kind: str, library: Library, tmp_path: Path
) -> None:
    library(kind, CODE[kind])
    spec = config(kind).fitted_to(FACTS)
    trained, fresh, again = (spec.build() for _ in range(3))
    inner: nn.Module = trained.get_submodule("model")
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in inner.state_dict().items()}}, tmp_path / "theirs.pt"
    )
    torch.save(trained.state_dict(), tmp_path / "ours.pt")
    spec.fill(fresh, tmp_path / "theirs.pt")
    spec.fill(again, tmp_path / "ours.pt")
    for module in (fresh, again):
        assert all(torch.equal(v, trained.state_dict()[k]) for k, v in module.state_dict().items())
    torch.save({"fc.weight": torch.zeros(5, 4)}, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        spec.fill(fresh, tmp_path / "part.pt")


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_library_that_is_not_there_is_told_with_the_command(kind: str, library: Library) -> None:
    with pytest.raises(RecipeError, match=rf"needs the package {kind}, which is not installed; pip install"):
        config(kind).fitted_to(FACTS)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_library_built_for_another_torch_is_told_with_its_words(kind: str, library: Library) -> None:
    library(kind, BROKEN)
    told = (
        rf"{kind} is installed and cannot be imported: operator torchvision::nms does not exist; torchvision"
    )
    with pytest.raises(RecipeError, match=told) as caught:
        config(kind).fitted_to(FACTS).build()
    assert "from the same index as torch" in str(caught.value)
    assert "pip install" in str(caught.value)


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_the_library_refuses_is_told_in_its_words(kind: str, library: Library) -> None:
    library(kind, CODE[kind])
    with pytest.raises(RecipeError, match=rf"{kind} cannot build nett: Unknown model"):
        config(kind, name="nett").fitted_to(FACTS).build()
    with pytest.raises(RecipeError, match=rf"{kind} cannot build net: .*depth"):
        config(kind, arguments={"depth": 3}).fitted_to(FACTS).build()


def test_several_outputs_are_refused_with_what_to_do(library: Library) -> None:
    library("torchvision", CODE["torchvision"])
    module = config("torchvision", arguments={"double": True}).fitted_to(FACTS).build()
    with pytest.raises(StageError, match="Net gives a tuple and no tensor; switch its auxiliary outputs off"):
        module(image=torch.zeros(1, 3, 8, 8))


def test_gray_images_are_for_timm_and_not_for_torchvision(library: Library) -> None:
    library("timm", CODE["timm"])
    gray = DataFacts(channels=1, num_classes=2)
    assert config("timm").fitted_to(gray).build()(image=torch.zeros(1, 1, 8, 8)).shape == (1, 2)
    library("torchvision", CODE["torchvision"])
    with pytest.raises(RecipeError, match="models of torchvision take 3 channels, and the data has 1"):
        config("torchvision").fitted_to(gray)
