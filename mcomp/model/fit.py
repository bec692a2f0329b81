"""Tensors into a module, all of them or none, with everything that does not fit told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from mcomp.errors import CheckpointError, Problem, named

SHOWN = 8
COMPARED = 1000  # names that a missing one may have been meant by: comparing them takes time

# What can be checked for being finite, and converted into each other. Narrower floats carry scales elsewhere.
FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})

SameKind = Callable[[torch.dtype, torch.dtype], bool]


def same_dtype(expected: torch.dtype, found: torch.dtype) -> bool:
    """Accept only what needs no conversion: our own files."""
    return expected == found


def both_real(expected: torch.dtype, found: torch.dtype) -> bool:
    """Accept other widths too (a float16 file for a float32 model), but no integers for real numbers."""
    if expected == found or {expected, found} <= FLOATS:
        return True
    return not any(kind.is_floating_point or kind.is_complex for kind in (expected, found))


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: str, kind: SameKind) -> None:
    """Copy `tensors` into the parameters and buffers of the same names, in place.

    Raises CheckpointError, before anything is changed, if a name, a shape or a type does not fit, or if a
    number is not finite; it lists all of them under the name `source`.
    """
    expected = tensors_of(module)
    require_fit(expected, tensors, source, kind)
    require_finite(dict(module.named_parameters(remove_duplicate=False)), tensors, source)
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(tensors[name])


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and persistent buffers by name, not copied."""
    return {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}


def require_fit(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str, kind: SameKind
) -> None:
    """Raise CheckpointError unless the tensors have the names, shapes and types of the model's."""
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    both = sorted(expected.keys() & found.keys())
    shapes = [name for name in both if expected[name].shape != found[name].shape]
    types = [name for name in both if not kind(expected[name].dtype, found[name].dtype)]
    parts = (
        section("missing", missing, lambda name: name + nearest(name, unexpected[:COMPARED])),
        section("unexpected", unexpected, named),
        section("of another shape", shapes, lambda name: differing(name, "shape", expected, found)),
        section("of another type", types, lambda name: differing(name, "dtype", expected, found)),
    )
    lines = tuple(line for part in parts for line in part)
    if lines:
        fits = len(both) - len(set(shapes) | set(types))
        head = (
            f"{source} does not fit the model: of its {len(expected)} tensors it has {fits} as they should be"
        )
        raise CheckpointError(Problem("", "", head, more=lines))


def section(title: str, names: Sequence[str], described: Callable[[str], str]) -> Iterable[str]:
    """Yield one heading with the count, and the first few names."""
    if names:
        yield f"  {title} ({len(names)}):"
        yield from (f"    {described(name)}" for name in names[:SHOWN])
    if len(names) > SHOWN:
        yield f"    and {len(names) - SHOWN} more"


def nearest(name: str, others: Sequence[str]) -> str:
    """Return a hint at the most similar of the other names, or ""."""
    close = get_close_matches(name, others, n=1)
    return f" (is {named(close[0])} meant?)" if close else ""


def differing(name: str, what: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Return what both sides have."""
    ours, theirs = (getattr(side[name], what) for side in (expected, found))
    shown = (tuple(each) if what == "shape" else str(each).removeprefix("torch.") for each in (theirs, ours))
    return "{}: {} in the file, {} in the model".format(name, *(named(str(each)) for each in shown))


def require_finite(parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError if a parameter is not finite, or a buffer not a number.

    A buffer may hold infinities: attention masks do.
    """
    bad = [
        name
        for name, tensor in sorted(tensors.items())
        if tensor.is_floating_point()
        and not (tensor.isfinite().all() if name in parameters else not tensor.isnan().any())
    ]
    if bad:
        lines = tuple(section("with infinite or undefined values", bad, named))
        raise CheckpointError(Problem("", "", f"{source} holds weights that are not numbers", more=lines))
