"""What the loop asks of data that augments: one draw an epoch, and none where a choice is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from mcomp.data.contract import Batch
from mcomp.data.splits import Splits, TensorSplit
from mcomp.training.config import Training
from mcomp.training.loop import fit
from tests.mcomp.training.setting import label_loss, make_context, small_model, small_split


@dataclass
class Watched:
    """A split that notes the draws it was asked for."""

    split: TensorSplit
    draws: list[int | None] = field(default_factory=list)
    augmented = True

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, positions: Tensor, draw: int | None = None) -> Batch:
        self.draws.append(draw)
        return self.split.batch(positions)


def draws_of(seed: int, epochs: int = 2) -> tuple[list[int | None], list[int | None]]:
    train, validation = Watched(small_split(32, seed=0)), Watched(small_split(24, seed=1))
    data = Splits(
        {"train": train, "calibration": small_split(2, seed=0), "validation": validation, "test": validation}
    )
    context = make_context(data, seed=seed, batch_size=16)
    fit(small_model(), Training(epochs=epochs), context, label="train", loss=label_loss)
    return train.draws, validation.draws


def test_each_epoch_has_one_draw_which_follows_the_seed() -> None:
    draws, _ = draws_of(seed=0)
    assert draws[0] == draws[1] != draws[2] == draws[3]
    assert None not in draws
    assert draws_of(seed=0)[0] == draws
    assert not set(draws_of(seed=1)[0]) & set(draws)


def test_validation_is_never_augmented() -> None:
    assert set(draws_of(seed=0)[1]) == {None}
