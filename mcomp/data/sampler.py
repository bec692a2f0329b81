"""Which samples make which batch of training: shuffled anew each epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mcomp.fingerprint import sub_seed


class EpochSampler:
    """Batches of shuffled positions, every sample once an epoch; the place in the epoch can be saved.

    The order of an epoch depends on the seed and the epoch's number alone, so three numbers are the state.
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int) -> None:
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(cut_batches(self.num_samples, self.batch_size))

    def rest_of_epoch(self) -> Iterator[Tensor]:
        """Yield the batches that are left in this epoch; then the sampler stands at the start of the next."""
        generator = torch.Generator().manual_seed(sub_seed(self.seed, f"epoch {self.epoch}"))
        order = torch.randperm(self.num_samples, generator=generator)
        batches = torch.split(order, cut_batches(self.num_samples, self.batch_size))
        for positions in batches[self.position :]:
            self.position += 1
            yield positions
        self.epoch += 1
        self.position = 0

    @property
    def draw(self) -> int:
        """The number that chooses this epoch's augmentation."""
        return sub_seed(self.seed, f"augmentation {self.epoch}")

    def state_dict(self) -> dict[str, int]:
        """Return the seed and the place: the epoch, and the number of batches of it that were taken."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a saved place, in place."""
        self.seed, self.epoch, self.position = state["seed"], state["epoch"], state["position"]


def cut_batches(num_samples: int, batch_size: int) -> list[int]:
    """Return the sizes of an epoch's batches: the last may be short, but not a single sample.

    Batch norm cannot train on one sample, so a single one joins the batch before it.
    """
    sizes = [batch_size] * (num_samples // batch_size)
    left_over = num_samples % batch_size
    if left_over == 1 and sizes:
        sizes[-1] += 1
    elif left_over:
        sizes.append(left_over)
    return sizes
