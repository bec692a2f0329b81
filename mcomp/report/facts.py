"""What stages say about their work: plain JSON that any plugin may fill, read with care."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from mcomp.report.text import clean, figure
from mcomp.store.ledger import Row

HISTORY = "history"
DRAWN = (HISTORY, "zeros", "group_scores")
SHOWN = 12  # entries of a list


class EpochLine(BaseModel):
    """One epoch of a training, as `facts["history"]` holds it."""

    model_config = ConfigDict(allow_inf_nan=False)

    number: int
    train_loss: float
    validation_loss: float
    metric: float


HISTORIES = TypeAdapter(list[EpochLine])


def note(row: Row) -> str:
    """Return what a stage wants its reader to know, "" if nothing."""
    return told if isinstance(told := row.facts.get("note"), str) else ""


def compressed_bytes(row: Row) -> int | None:
    """Return how large a file is when it is compressed, None if nobody looked."""
    return size if isinstance(size := row.facts.get("compressed_bytes"), int) else None


def history(row: Row) -> list[EpochLine]:
    """Return the training of a step, also one inside a part of its facts (`recover`); empty if none."""
    parts = [row.facts, *(part for part in row.facts.values() if isinstance(part, Mapping))]
    for part in parts:
        if HISTORY in part:
            return as_history(part[HISTORY])
    return []


def as_history(found: Any) -> list[EpochLine]:
    """Return the epochs; a plugin's `history` that is something else is no training."""
    try:
        return HISTORIES.validate_python(found)
    except ValidationError:
        return []


def flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted names and values as text, without what is drawn."""
    for key, value in facts.items():
        name = f"{prefix}{clean(str(key))}"
        if key in DRAWN:
            continue
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        else:
            yield name, shown(value)


def shown(value: Any) -> str:
    """Return one value as text; long lists are cut."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, list):
        more = [f"and {len(value) - SHOWN} more"] if len(value) > SHOWN else []
        return ", ".join([*map(shown, value[:SHOWN]), *more])
    return clean(str(value))
