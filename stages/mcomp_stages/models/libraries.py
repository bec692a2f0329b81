"""Networks of other libraries, behind one input that is called `image`. Needs torch."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.errors import CheckpointError, Problem, RecipeError, StageError, printable
from mcomp.model.fit import both_real, fill, tensors_of
from mcomp.model.weights import read_tensors, without_wrappers


class ImageNetwork(nn.Module):
    """Takes `image` (N, C, H, W), whatever the library calls it, and returns one tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        output = self.model(image)
        if not isinstance(output, Tensor):
            what = f"{type(self.model).__name__} gives a {type(output).__name__} and no tensor"
            raise StageError(f"{what}; switch its auxiliary outputs off (arguments: {{aux_logits: false}})")
        return output


def imported(library: str, module: str, install: str) -> Any:
    """Return a module of a library. Raises RecipeError, with what to do, if it cannot be imported."""
    try:
        return import_module(module)
    except Exception as error:  # a library built for another torch fails in a way of its own
        why = printable(str(error).partition("\n")[0]) or type(error).__name__
        what = f"{library} is installed and cannot be imported: {why}"
        raise RecipeError(Problem("", "type", what, f"{fitting_torchvision()}; {install}")) from error


def fitting_torchvision() -> str:
    """Return what torchvision has to do with it: it must be built for the very torch that is installed."""
    torch_version = torch.__version__
    try:
        known = f"torchvision {version('torchvision')} may be built for another torch than {torch_version}"
    except PackageNotFoundError:
        known = "torchvision is not installed"
    return f"{known}; it must come from the same index as torch, as one pair"


def fill_network(network: nn.Module, checkpoint: Any) -> None:
    """Copy the weights of a file into an `ImageNetwork`, in place; the library's own names fit.

    Raises CheckpointError if the file is broken or does not fit; then nothing was copied.
    """
    assert isinstance(network, ImageNetwork)
    tensors = read_tensors(checkpoint)
    own = without_wrappers(tensors, tensors_of(network))
    if own.keys() == tensors_of(network).keys():  # saved from the very module
        return fill(network, own, str(checkpoint), both_real)
    return fill(
        network.model, without_wrappers(tensors, tensors_of(network.model)), str(checkpoint), both_real
    )


def built(library: str, name: str, create: Any) -> ImageNetwork:
    """Return what `create` builds, in float32. Raises RecipeError with the library's own words."""
    try:
        return ImageNetwork(create().float())
    except (CheckpointError, RecipeError):
        raise
    except Exception as error:  # each architecture checks its arguments in a way of its own
        why = printable(str(error).partition("\n")[0]) or type(error).__name__
        raise RecipeError(Problem("", "name", f"{library} cannot build {name}: {why}")) from error
