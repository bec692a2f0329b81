"""Is there room for a step? Asked before it is computed, as far as the sizes are known then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from mcomp.errors import StoreFull
from mcomp.store.store import Store
from mcomp.training.config import Training

NUM_CHECKPOINTS = 3  # the last two, and the next one while it is written
MOMENTS = {"sgd": 1, "adamw": 2}  # tensors of the size of the weights that an optimizer keeps


def require_room(store: Store, step: str, model_bytes: int, config: BaseModel) -> None:
    """Raise StoreFull, with the figures, if a step surely fills the disk.

    It is counted with a result as large as the model it starts from (`model_bytes`), and, while it trains,
    with checkpoints of that model.
    """
    states = model_bytes * sum(map(copies, trainings(config)))
    free = store.disk.free_bytes(store.root)
    if free < model_bytes + states:
        parts = [f"{model_bytes:,} bytes for the result"]
        parts += [f"{states:,} for checkpoints"] if states else []
        raise StoreFull(
            f"{step} was not started: it needs about {' and '.join(parts)}, and the disk of {store.root} has "
            f"{free:,} free; make room (see mcomp clean), or name another store with --store"
        )


def copies(training: Training) -> int:
    """Return how many times the weights are on the disk while a training runs."""
    now_and_best = 2
    return NUM_CHECKPOINTS * (now_and_best + MOMENTS.get(training.optimizer.type, 1))


def trainings(value: Any) -> Iterator[Training]:
    """Yield the trainings that a configuration asks for."""
    if isinstance(value, Training):
        yield value
    elif isinstance(value, BaseModel):
        yield from trainings([getattr(value, name) for name in type(value).model_fields])
    elif isinstance(value, dict):
        yield from trainings(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from trainings(each)
