"""Weights of dynamic quantization tried one by one, for `mcomp sensitivity`, and the fields that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Levels, Patch, Trial, Trials
from mcomp.stage import Checkpoint
from mcomp_stages.methods.quantization.weights.dynamic import with_stored
from mcomp_stages.methods.quantization.weights.uses import UsedWeight

WIDTHS = (16, 8, 7)


@dataclass
class Rounded:
    """The weights of a model, all of them rounded once for each width; each is then tried alone."""

    model: Model
    example: Mapping[str, Tensor]
    round_all: Callable[[int], Checkpoint]
    made: dict[int, Checkpoint] = field(default_factory=dict)

    @contextmanager
    def alone(self, name: str, bits: int) -> Iterator[nn.Module]:
        """Give the model as it is served with one weight rounded, while the block runs."""
        if bits not in self.made:
            self.made[bits] = self.round_all(bits)
        done = self.made[bits]
        prefix = f"stored.{name}."
        tensors = {key: value for key, value in done.tensors.items() if key.startswith(prefix)}
        one = Checkpoint(tensors, {"weights": {name: done.numbers["weights"][name]}})
        yield with_stored(self.model, one).inference_module(self.example)


@dataclass(frozen=True)
class Fields:
    """What the stage says of layers already: the new fields stand behind it."""

    keep_float: Sequence[str]
    overrides: Sequence[dict[str, Any]]

    def patch(self, chosen: Mapping[str, tuple[int, str]], levels: Levels) -> Patch:
        """Return the fields with the layers that do not bear their width, or bear a smaller one.

        `chosen` has by part its width and the path of a module that reads it.
        """
        kept = [path for part, (_, path) in chosen.items() if levels[part] is None]
        other = {
            path: int(width)
            for part, (own, path) in chosen.items()
            if (width := levels[part]) is not None and width != own
        }
        if len(kept) == len(chosen):
            return Patch(said="every layer alone costs more than the limit: raise it")
        if not kept and not other:
            return Patch(said="no layer alone costs more than the limit: nothing to change")
        fields: dict[str, Any] = {}
        if kept:
            fields["keep_float"] = [*self.keep_float, *kept]
        if other:
            new = [{"modules": path, "bits": width} for path, width in other.items()]
            fields["overrides"] = [*self.overrides, *new]
        said = f"{len(kept)} of {len(chosen)} layers stay in float, {len(other)} get another width"
        return Patch(fields, said)


def dynamic_trials(
    rounded: Rounded,
    chosen: Sequence[UsedWeight],
    bits: Mapping[str, int],
    fields: Fields,
    levels: Sequence[float] = (),
) -> Trials:
    """Return the trials of a stage that rounds `chosen` to `bits`, by the weight's name.

    `levels` are widths; by default 16 and the weight's own. Raises StageError for other widths.
    """
    wrong = [level for level in levels if level not in WIDTHS]
    if wrong:
        raise StageError(f"weights have 7, 8 or 16 bits here, not {wrong[0]:g}")
    parts = {weight.name.removesuffix(".weight"): weight for weight in chosen}
    trials = [
        Trial(part, width, partial(rounded.alone, weight.name, width))
        for part, weight in parts.items()
        for width in WIDTHS
        if width in (levels or (WIDTHS[0], bits[weight.name]))
    ]
    own = {part: (bits[weight.name], weight.paths[0]) for part, weight in parts.items()}
    return Trials(rounded.model.copy().module.eval(), tuple(trials), partial(fields.patch, own))
