"""What scores can be computed from: the weights, and labelled samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Generator, Tensor, nn

from mcomp.data.contract import Batch

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Evidence:
    """A model, a generator for what is drawn, and batches of samples, each time the same.

    `loss` takes an output and a target and returns the mean over the batch.
    """

    module: nn.Module
    generator: Generator = field(default_factory=Generator)
    batches: Callable[[], Iterator[Batch]] = lambda: iter(())
    loss: Loss | None = None

    @cached_property
    def parameters(self) -> Mapping[str, Tensor]:
        """The parameters by name, tied ones once."""
        return {name: parameter.detach() for name, parameter in self.module.named_parameters()}
