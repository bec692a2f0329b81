"""The trace of the loss's second derivatives by each weight, from products with random signs.

Sources: Hutchinson 1990; HAWQ-V2, Dong et al. 2020, arXiv:1911.03852, eqs. 4 and 6: what rounding a weight
costs is the mean of its trace times the squared distance that it moves. Differs: half of it, as in Taylor's
series.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mcomp.data.contract import Batch
from mcomp.progress import Steps
from mcomp.stage import Checkpoint

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Batches:
    """So many batches, by number: each is made when it is asked for."""

    count: int
    at: Callable[[int], Batch]


@dataclass
class Traces:
    """Sums over samples and probes of z^T H z, by parameter, z being random signs."""

    module: nn.Module
    names: Sequence[str]
    batches: Batches
    loss: Loss
    num_probes: int
    generator: Generator
    num_samples: int = 0
    sums: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.sums = torch.zeros(len(self.names), dtype=torch.float64)

    def advance(self, number: int) -> None:
        """Add one batch."""
        # The fused kernels of attention have no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            self.add(number)

    def add(self, number: int) -> None:
        """Add one batch, by whatever kernels are allowed."""
        parameters = [self.module.get_parameter(name) for name in self.names]
        batch = self.batches.at(number)
        output = self.module(**batch.inputs)
        gradients = torch.autograd.grad(self.loss(output, batch.target), parameters, create_graph=True)
        for probe in range(self.num_probes):
            signs = [random_signs(each, self.generator) for each in parameters]
            products = torch.autograd.grad(
                gradients, parameters, signs, retain_graph=probe + 1 < self.num_probes, allow_unused=True
            )
            found = [
                0.0 if product is None else float((product * sign).sum())
                for product, sign in zip(products, signs, strict=True)
            ]
            self.sums += len(batch.target) * torch.tensor(found, dtype=torch.float64)
        self.num_samples += len(batch.target)

    def state(self) -> Checkpoint:
        """Return the sums so far and the generator's state."""
        tensors = {"sums": self.sums, "generator": self.generator.get_state()}
        return Checkpoint(tensors, {"num_samples": self.num_samples})

    def restore(self, state: Checkpoint, num_done: int) -> None:
        """Go on after so many batches."""
        self.sums.copy_(state.tensors["sums"])
        self.generator.set_state(state.tensors["generator"])
        self.num_samples = int(state.numbers["num_samples"])

    def means(self) -> dict[str, float]:
        """Return the mean diagonal element of the Hessian by parameter."""
        traces = self.sums / (self.num_samples * self.num_probes)
        return {
            name: float(trace) / self.module.get_parameter(name).numel()
            for name, trace in zip(self.names, traces, strict=True)
        }


def mean_traces(traces: Traces, label: str, steps: Steps) -> dict[str, float]:
    """Return for each parameter the mean diagonal element of the Hessian of the mean loss over the batches.

    The module computes as it does in inference; its gradients are left as they were. `steps` keeps how far
    the unit `label` is (`mcomp.stage.Context.steps`).
    """
    traces.module.eval()
    steps(label, traces.batches.count, traces)
    return traces.means()


def random_signs(like: Tensor, generator: Generator) -> Tensor:
    """Return -1 or 1 for each element."""
    drawn = torch.randint(0, 2, like.shape, generator=generator)
    return (2 * drawn - 1).to(like.dtype)
