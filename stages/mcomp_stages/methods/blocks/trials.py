"""Blocks left out one by one, for `mcomp sensitivity`, and the blocks to skip that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from torch import nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Levels, Patch, Timing, Trial, Trials
from mcomp_stages.methods.blocks.choice import Blocks, without
from mcomp_stages.methods.blocks.edit import RemovedBlock
from mcomp_stages.methods.latency_target import Stopwatch


def block_trials(
    model: Model,
    blocks: Blocks,
    skip: Sequence[str] = (),
    levels: Sequence[float] = (),
    watch: Callable[[], Stopwatch] | None = None,
) -> Trials:
    """Return one trial for each block. `watch` times models as they would be served.

    Raises StageError for levels: a block goes or stays.
    """
    if any(level != 1 for level in levels):
        raise StageError("a block goes as a whole: leave out --levels")
    trials = tuple(Trial(path, 1.0, partial(module_without, model, block)) for path, block in blocks.items())
    return Trials(
        model.copy().module.eval(),
        trials,
        partial(skip_patch, tuple(skip)),
        None if watch is None else partial(timing, model, blocks, watch),
    )


@contextmanager
def module_without(model: Model, block: RemovedBlock) -> Iterator[nn.Module]:
    """Give the module without a block in inference mode."""
    yield model.edited(without([block])).module.eval()


def timing(model: Model, blocks: Mapping[str, RemovedBlock], watch: Callable[[], Stopwatch]) -> Timing:
    """Return what times the model without each block beside the whole model, in turns."""
    started = watch()
    return Timing(started.whole_ms, lambda trial: started.ms(model.edited(without([blocks[trial.part]]))))


def skip_patch(skip: tuple[str, ...], levels: Levels) -> Patch:
    """Return the blocks to skip: those that cost more than the limit."""
    over = [path for path, level in levels.items() if level is None]
    left = len(levels) - len(over)
    if not left:
        return Patch(said="whichever block goes costs more than the limit: raise it, or train what is left")
    said = f"{left} of {len(levels)} blocks can go one at a time; what several cost together is not the sum"
    return Patch({"skip": [*skip, *over]} if over else {}, said)
