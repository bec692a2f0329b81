"""Nonsense stops: where a loss, a gradient or a weight stopped being a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mcomp.errors import StageError


def first_nonfinite(tensors: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """Return the name of the first floating-point tensor that holds an infinity or a NaN."""
    for name, tensor in tensors:
        if tensor is not None and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return None


def owner(name: str) -> str:
    """Return the path of the module that owns a parameter."""
    return name.rpartition(".")[0]


def stop_at_loss(module: nn.Module, inputs: Mapping[str, Tensor], loss: float, step: str) -> StageError:
    """Return the error for a loss that is not finite, naming the first module that is to blame."""
    name = first_nonfinite(module.named_parameters())
    if name is not None:
        return StageError(f"{step}: {name} is not finite", module=owner(name))
    path = first_nonfinite_output(module, inputs)
    return StageError(f"{step}: the loss is {loss}; a lower learning rate may help", module=path)


def stop_at_gradient(module: nn.Module, step: str) -> StageError:
    """Return the error for a gradient that is not finite, naming the first module that has one."""
    name = first_nonfinite((name, parameter.grad) for name, parameter in module.named_parameters())
    if name is None:
        return StageError(f"{step}: the norm of the gradient overflows; a lower learning rate may help")
    return StageError(f"{step}: the gradient of {name} is not finite", module=owner(name))


def require_finite_weights(module: nn.Module, step: str) -> None:
    """Raise StageError if a parameter or buffer is not finite."""
    name = first_nonfinite(module.state_dict().items())
    if name is not None:
        raise StageError(f"{step}: {name} is not finite", module=owner(name))


def first_nonfinite_output(module: nn.Module, inputs: Mapping[str, Tensor]) -> str:
    """Run the module once more and return the path of the first part whose output is not finite, or ""."""
    found: list[str] = []

    def watch(path: str) -> torch.utils.hooks.RemovableHandle:
        def look(part: nn.Module, arguments: object, output: object) -> None:
            if isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                found.append(path)

        return module.get_submodule(path).register_forward_hook(look)

    hooks = [watch(path) for path, _ in module.named_modules()]
    try:
        with torch.no_grad():
            module(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else ""
