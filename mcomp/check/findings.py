"""What a check that found no mistake can say about a recipe. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mcomp.store.ledger import Row


@dataclass(frozen=True)
class BoundModel:
    """An architecture that was built and given two samples; `inputs` and `output` are shapes of one sample.

    `checkpoint`: the name of the file that its weights came from, "" for fresh ones.
    """

    recipe: str
    type: str
    parameters: int
    size_bytes: int
    inputs: Mapping[str, tuple[int, ...]]
    output: tuple[int, ...]
    checkpoint: str


@dataclass(frozen=True)
class Match:
    """A pattern of a stage and the modules it chooses."""

    path: str
    pattern: str
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """How many bytes a run will need.

    `results`: what it is still to write; `checkpoints`: what an interrupted training keeps beside that, at
    most; `free`: the room on the store's disk; `memory`: the most that a step of the rehearsal held, None
    where that cannot be measured.
    """

    results: int
    checkpoints: int
    free: int
    memory: int | None


@dataclass(frozen=True)
class Findings:
    """Everything a check saw. `splits`: the samples of each split, and how many of them were used.

    `untrained`: the recipes that are referred to, in whose place fresh models stood. `unexported`:
    the exports of the baseline that were left out, since the pipeline exports the same architecture.
    """

    splits: Mapping[str, tuple[int, int]]
    models: tuple[BoundModel, ...]
    matches: tuple[Match, ...]
    rows: tuple[Row, ...]
    untrained: tuple[str, ...]
    unexported: tuple[str, ...]
    warnings: tuple[str, ...]
    estimate: Estimate
