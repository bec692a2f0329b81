"""Where training runs, and the state of torch that it borrows and gives back."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch
from mcomp.errors import StageError
from mcomp.measure.machine import machine_id
from mcomp.recipe.schema import Compute

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def chosen_device(compute: Compute) -> torch.device:
    """Return the device a recipe asks for. Raises StageError if this machine cannot do it."""
    has_cuda = torch.cuda.is_available()
    if compute.device == "cuda" and not has_cuda:
        raise StageError("compute.device is cuda, but torch finds no GPU; use cpu or auto")
    name = "cuda" if has_cuda and compute.device != "cpu" else "cpu"
    if name == "cpu" and compute.precision == "16-mixed":
        raise StageError("compute.precision 16-mixed needs a GPU; use bf16-mixed or 32-true")
    return torch.device(name)


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's parameters are."""
    return next(module.parameters()).device


def make_fabric(compute: Compute, device: torch.device) -> Fabric:
    """Return Lightning Fabric for one device."""
    from lightning_fabric import Fabric  # takes two seconds to import

    return Fabric(accelerator=device.type, devices=1, precision=compute.precision)


def environment(compute: Compute) -> dict[str, str]:
    """Return what the bytes of a training depend on beside the recipe, the data and the code."""
    has_cuda = torch.cuda.is_available()
    return {
        "machine": machine_id(),
        "gpu": torch.cuda.get_device_name() if has_cuda else "none",
        "threads": str(torch.get_num_threads()),
        "device": compute.device,
        "precision": compute.precision,
        **{name: version(name) for name in ("mcomp", "torch", "lightning-fabric")},
    }


@contextmanager
def borrowed_threads(threads: int | None) -> Iterator[None]:
    """Let torch use that many threads, its own default for None; restore the number at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def borrowed_generators(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, Python and NumPy; restore them at the end.

    Dropout draws from torch's. The others are for a person's own modules and losses.
    """
    python, numpy = random.getstate(), np.random.get_state(legacy=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on a device, its inputs in torch's ordinary memory layout."""
    return Batch(batch.indices, on_device(batch.inputs, device), batch.target.to(device))


def on_device(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return named tensors on a device, in torch's ordinary memory layout."""
    return {name: in_ordinary_layout(tensor.to(device)) for name, tensor in tensors.items()}


def in_ordinary_layout(tensor: Tensor) -> Tensor:
    """Return the tensor with the strides that a new one of its shape has.

    The strides of one gray image after the other, cut out of (N, H, W, 1), are those of the channels-last
    layout, and `contiguous()` leaves them. There the backward pass of oneDNN in torch 2.13 writes out of
    bounds (1x1 convolution, stride 2, fewer than 16 channels), and it was only 2-12 % faster.
    """
    if tensor.stride() == torch.empty(tensor.shape, device="meta").stride():
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)
