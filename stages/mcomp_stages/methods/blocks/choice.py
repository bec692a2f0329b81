"""Which blocks go: those of the lowest scores, as many as a target asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

from torch import Tensor

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp_stages.methods.blocks.config import BlocksTarget
from mcomp_stages.methods.blocks.edit import RemovedBlock, RemovedBlocks
from mcomp_stages.methods.latency_target import Stopwatch, Try
from mcomp_stages.methods.size import totals

Blocks = Mapping[str, RemovedBlock]
SHOWN = 3


def without(blocks: Sequence[RemovedBlock]) -> RemovedBlocks:
    """Return the change that leaves blocks out."""
    return RemovedBlocks(blocks=tuple(blocks))


def by_number(order: Sequence[RemovedBlock], wanted: int) -> Sequence[RemovedBlock]:
    """Return the first `wanted` blocks. Raises StageError if there are fewer."""
    if wanted > len(order):
        names = ", ".join(block.module for block in order[:SHOWN])
        more = f" and {len(order) - SHOWN} more" if len(order) > SHOWN else ""
        raise StageError(
            f"cannot leave out {wanted} blocks: only {len(order)} can be ({names or 'none'}{more}); "
            "a block runs once, gives a tensor of its input's shape, and adds to its input"
        )
    return order[:wanted]


def by_share(
    model: Model, order: Sequence[RemovedBlock], quantity: str, most: float, example: Mapping[str, Tensor]
) -> Sequence[RemovedBlock]:
    """Return as few of the first blocks as leave at most `most` of a quantity. Raises StageError."""
    for number in range(len(order) + 1):
        left = totals(model.edited(without(order[:number])), example)[quantity]
        if left <= most:
            return order[:number]
    whole = totals(model, example)[quantity]
    raise StageError(
        f"cannot keep only {most / whole:.1%} of the {quantity}: without all {len(order)} blocks that can be "
        f"left out {left / whole:.1%} stays"
    )


def fewest_within(
    limit_ms: float,
    order: Sequence[RemovedBlock],
    whole_ms: float,
    time_ms: Callable[[Sequence[RemovedBlock]], float],
) -> tuple[Sequence[RemovedBlock], list[Try]]:
    """Return as few of the first blocks as make a model fast enough, and what was tried: the share of blocks
    that stay, and milliseconds.

    Raises StageError if the whole model is fast enough, or the one without all of them is not.
    """
    if whole_ms <= limit_ms:
        raise StageError(
            f"nothing was cut: the model takes {whole_ms:.3g} ms as it is, at most {limit_ms:.3g}"
        )
    tries = [Try(1.0, whole_ms)]

    def is_enough(number: int) -> bool:
        tries.append(Try(1 - number / max(len(order), 1), time_ms(order[:number])))
        return tries[-1].ms <= limit_ms

    if not is_enough(len(order)):
        raise StageError(
            f"cannot reach {limit_ms:.3g} ms: without all {len(order)} blocks that can be left out the model "
            f"takes {tries[-1].ms:.3g} ms, with them {whole_ms:.3g} ms"
        )
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return order[:high], tries


def step_target(target: BlocksTarget, step: int, steps: int, first: Mapping[str, float]) -> dict[str, float]:
    """Return what is to be reached after a step of several: blocks left out by then, or a quantity."""
    if target.blocks is not None:
        return {"blocks": ceil(target.blocks * step / steps)}
    name, keep = ("macs", target.macs) if target.macs is not None else ("params", target.params)
    assert keep is not None
    return {name: first[name] * keep ** (step / steps)}


def next_blocks(
    model: Model,
    order: Sequence[RemovedBlock],
    wanted: Mapping[str, float],
    removed: int,
    context: Context,
) -> Sequence[RemovedBlock]:
    """Return the blocks that a step leaves out. Raises StageError if there are not enough."""
    ((name, amount),) = wanted.items()
    if name == "blocks":
        return by_number(order, int(amount) - removed)
    return by_share(model, order, name, amount, context.example)


def timed_blocks(
    model: Model, order: Sequence[RemovedBlock], target: BlocksTarget, context: Context
) -> tuple[Sequence[RemovedBlock], dict[str, Any]]:
    """Return the blocks to leave out for a latency, and what is to be said of the search."""
    assert target.latency_ms is not None
    watch = Stopwatch(model, context, target.batch_size, target.threads)
    chosen, tries = fewest_within(
        target.latency_ms, order, watch.whole_ms, lambda some: watch.ms(model.edited(without(some)))
    )
    reached = next(each.ms for each in tries if each.share == 1 - len(chosen) / len(order))
    return chosen, {"latency": watch.facts(target.latency_ms, reached, tries)}
