"""Widths that layers are tried with one by one, and the fields that follow from what they bear."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from mcomp.config import Config
from mcomp.errors import StageError
from mcomp.sensitivity.trials import Levels, Patch
from mcomp_stages.methods.quantization.config import WeightBits

WIDTHS: tuple[int, ...] = get_args(WeightBits)
WIDEST = max(WIDTHS)
ENOUGH = 7  # below this many bits the widest is tried as well


def widths(levels: Sequence[float]) -> tuple[int, ...]:
    """Return widths of weights, the widest first. Raises StageError for one that there is not."""
    wrong = [level for level in levels if level not in WIDTHS]
    if wrong:
        raise StageError(f"weights have {WIDTHS[0]} to {WIDEST} bits, not {wrong[0]:g}")
    return tuple(sorted({int(level) for level in levels}, reverse=True))


def tried(own: int, asked: tuple[int, ...]) -> tuple[int, ...]:
    """Return the widths that a layer of `own` bits is tried with."""
    return asked or ((WIDEST, own) if own < ENOUGH else (own,))


def overrides_patch(
    layers: Mapping[str, tuple[int, Sequence[str]]],
    overrides: Sequence[Config],
    levels: Levels,
    at_width: Callable[[int], dict[str, Any]],
) -> Patch:
    """Return overrides for the layers that do not bear their width, or bear a smaller one.

    `layers` has by part its own width and the module paths it stands for; `at_width` is what an override says
    of a layer with another one. The stage's own `overrides` stay, in front.
    """
    changes: dict[str, dict[str, Any]] = {}
    for part, (own, _) in layers.items():
        bits = levels[part]
        if bits is None:
            changes[part] = {"keep_float": True}
        elif bits != own:
            changes[part] = at_width(int(bits))
    kept = [part for part, change in changes.items() if "keep_float" in change]
    if len(kept) == len(layers):
        return Patch(said="every layer alone costs more than the limit: raise it, or train the model")
    if not changes:
        return Patch(said="no layer alone costs more than the limit: nothing to change")
    old = [each.model_dump(mode="json", exclude_defaults=True) for each in overrides]
    new = [{"modules": path, **change} for part, change in changes.items() for path in layers[part][1]]
    others = len(changes) - len(kept)
    said = f"{len(kept)} of {len(layers)} layers stay in float, {others} get another width"
    return Patch({"overrides": [*old, *new]}, said)


def require_own_width(own: int, levels: Sequence[float]) -> None:
    """Raise StageError if another width is asked of a stage that has one for all layers."""
    other = [level for level in levels if level != own]
    if other:
        raise StageError(f"this stage gives weights {own} bits, not {other[0]:g}; leave out --levels")


def keep_float_patch(keep_float: Sequence[str], layers: Mapping[str, Sequence[str]], levels: Levels) -> Patch:
    """Return the stage's `keep_float` with the layers that do not bear what it does.

    `layers` has by part the module paths it stands for.
    """
    kept = [path for part, paths in layers.items() if levels[part] is None for path in paths]
    if not kept:
        return Patch(said="no layer alone costs more than the limit: nothing to change")
    if all(levels[part] is None for part in layers):
        return Patch(said="every layer alone costs more than the limit: raise it, or train the model")
    said = f"{len(kept)} of {sum(map(len, layers.values()))} layers stay in float"
    return Patch({"keep_float": [*keep_float, *kept]}, said)
