"""Which layers of a model may be factorized, which may not and why, and which ranks are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import cast

from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.model.select import select_modules
from mcomp_stages.methods.lowrank.config import GivenRanks
from mcomp_stages.methods.lowrank.layers_seen import Seen, layers_seen, positions
from mcomp_stages.methods.lowrank.ranks import Positions, Ranks
from mcomp_stages.methods.lowrank.thin import Layer, full_ranks, refusal


@dataclass(frozen=True)
class Candidate:
    """A layer and what it sees."""

    layer: Layer
    seen: Seen

    @property
    def positions(self) -> Positions:
        """How often one sample uses its weights."""
        return positions(self.layer, self.seen)


def candidates(
    model: Model, example: Mapping[str, Tensor], patterns: Sequence[str], skip: Sequence[str]
) -> tuple[dict[str, Candidate], dict[str, str]]:
    """Return the layers that may be factorized by path, and for the others among the patterns the reason.

    Raises StageError if a pattern matches nothing.
    """
    module = model.module
    stay = set(select_modules(module, skip))
    layers = [
        path
        for path in select_modules(module, patterns)
        if path not in stay and isinstance(module.get_submodule(path), nn.Linear | nn.Conv2d)
    ]
    seen = layers_seen(module, layers, example)
    found, left = {}, {}
    for path in layers:
        reason = refusal(module, model.state, path) or ("" if path in seen else "does not run as a module")
        if reason:
            left[path] = reason
        else:
            found[path] = Candidate(cast(Layer, module.get_submodule(path)), seen[path])
    return found, left


def why_left(left: Mapping[str, str]) -> str:
    """Return how an error about layers that stay goes on: each reason once, with a layer that it is about."""
    layers: dict[str, list[str]] = {}
    for path, reason in left.items():
        layers.setdefault(reason, []).append(path)
    told = [
        f"{paths[0]}{f' (as {len(paths) - 1} more)' if len(paths) > 1 else ''} {reason}"
        for reason, paths in layers.items()
    ]
    return f": {'; '.join(told)}" if told else ""


def given_ranks(
    module: nn.Module,
    found: Mapping[str, Candidate],
    left: Mapping[str, str],
    given: Sequence[GivenRanks],
) -> dict[str, Ranks]:
    """Return the ranks that are given, by layer; the last that matches counts.

    Raises StageError if a pattern names no layer that can be factorized, or a rank is above the full one.
    """
    ranks: dict[str, Ranks] = {}
    for each in given:
        select_modules(module, [each.match])
        matched = [path for path in found if fnmatchcase(path, each.match)]
        if not matched:
            why = next((f": {path} {left[path]}" for path in left if fnmatchcase(path, each.match)), "")
            raise StageError(f"nothing that matches '{each.match}' can be factorized{why}", about=each.match)
        for path in matched:
            full = full_ranks(found[path].layer)
            if len(each.ranks) != len(full):
                kinds = {1: "one rank", 2: "two ranks (of inputs and outputs)"}
                raise StageError(f"takes {kinds[len(full)]}, and is given {len(each.ranks)}", module=path)
            if any(rank > most for rank, most in zip(each.ranks, full, strict=True)):
                most = " and ".join(map(str, full))
                raise StageError(f"has no ranks above {most}, and is given {list(each.ranks)}", module=path)
            ranks[path] = each.ranks
    return ranks
