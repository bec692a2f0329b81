"""States that a training goes on from, forged with their digests: other kinds of numbers, other tensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.hostile.attack import Attack
from tests.hostile.pickles import ESCAPES
from tests.hostile.stores import C, attack, forged_state, opened, store_with

State = tuple[dict[str, Any], dict[str, Any]]
Change = Callable[[dict[str, Any], dict[str, Any]], object]


def train(folder: Path) -> None:
    """Train a small model, going on from the state that is kept."""
    from mcomp.store.checkpoints import StepCheckpoints
    from mcomp.training.loop import fit
    from tests.mcomp.training.setting import Quiet, label_loss, make_context, small_model

    class Telling(Quiet):
        log = warn = staticmethod(print)  # type: ignore[assignment]

    states = StepCheckpoints(opened(folder), C, dict, print)
    context = replace(make_context(), checkpoints=states, reporter=Telling())
    fit(small_model(), training(), context, label="train", loss=label_loss)


def training() -> Any:
    """Return the fields of a short training."""
    from mcomp.training.config import SGD, Training

    return Training(epochs=1, optimizer=SGD(lr=0.05, momentum=0.9))


def state_at_start() -> State:
    """Return the state of the small training before its first update: tensors and numbers."""
    from lightning_fabric.plugins.precision import Precision

    from mcomp.training.loop import start
    from mcomp.training.resume import captured
    from tests.mcomp.training.setting import make_context, small_model

    found = captured(start(small_model().module, training(), make_context(), None), Precision())
    tensors = {name: tensor.detach().clone() for name, tensor in found.tensors.items()}
    return tensors, json.loads(json.dumps(found.numbers))


def misled(change: Change, told: str = "is no state of this training") -> Attack:
    """Return an attack by the state at the start with changes."""

    def forge(root: Path) -> None:
        from safetensors.torch import save

        tensors, numbers = state_at_start()
        change(tensors, numbers)
        forged_state(save(tensors), numbers=numbers)(root)

    return replace(attack(store_with(forge), train, told, code=5), error="StageError")


def without(part: str) -> Change:
    """Return what leaves out one of the numbers."""
    return lambda tensors, numbers: numbers.pop(part)


def other(part: str, value: Any) -> Change:
    """Return what puts another value in the place of one of the numbers."""
    return lambda tensors, numbers: numbers.update({part: value})


def tensor(name: str, make: Callable[[Any], Any]) -> Change:
    """Return what puts another tensor in the place of one."""
    return lambda tensors, numbers: tensors.update({name: make(tensors[name])})


def first_weight_of_a_row(old: Any) -> Any:
    """Return a tensor of another shape, which does not spread over the old one."""
    return old.flatten()[:3].clone()


PARTS = ("optimizer", "schedule", "place", "loss_sum", "history", "best", "random")
ATTACKS: dict[str, Attack] = {
    **{f"without {part}": misled(without(part)) for part in PARTS},
    **{f"{part} that is a text": misled(other(part, ESCAPES)) for part in PARTS if part != "loss_sum"},
    "nothing": misled(lambda tensors, numbers: (tensors.clear(), numbers.clear())),
    "no tensors": misled(lambda tensors, numbers: tensors.clear()),
    "a weight of another shape": misled(tensor("module/conv.weight", first_weight_of_a_row)),
    "a generator that is cut off": misled(tensor("random/cpu", first_weight_of_a_row)),
    "a generator of other numbers": misled(tensor("random/cpu", lambda old: old.fill_(255))),
    "an optimizer of more weights": misled(
        lambda tensors, numbers: numbers["optimizer"]["groups"][0]["params"].append(99)
    ),
    "an optimizer without its groups": misled(lambda tensors, numbers: numbers["optimizer"].pop("groups")),
    "a history of fields that do not exist": misled(
        other("history", [{"number": 1, "__class__": "evil.Evil"}])
    ),
    "a generator of Python of another version": misled(
        lambda tensors, numbers: numbers["random"]["python"].__setitem__(0, 99)
    ),
    "a generator of NumPy that does not exist": misled(
        lambda tensors, numbers: numbers["random"]["numpy"].update(bit_generator="evil.run")
    ),
}
