"""The trace of the loss's second derivatives by each weight, from products with random signs.

Sources: Hutchinson 1990; HAWQ-V2, Dong et al. 2020, arXiv:1911.03852, eqs. 4 and 6: what rounding a weight
costs is the mean of its trace times the squared distance that it moves. Differs: half of it, as in Taylor's
series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice

import torch
from torch import Generator, Tensor, nn

from mcomp.data.contract import Batch
from mcomp.stage import Checkpoint, Unit

PORTION = 16  # batches that are lost at most if the step is interrupted

Loss = Callable[[Tensor, Tensor], Tensor]


def mean_traces(
    module: nn.Module,
    names: Sequence[str],
    batches: Iterable[Batch],
    loss: Loss,
    num_probes: int,
    generator: Generator,
    unit: Unit,
) -> dict[str, float]:
    """Return for each parameter the mean diagonal element of the Hessian of the mean loss over the batches.

    `module` computes as it does in inference; its gradients are left as they were. `unit` keeps what is done
    (`mcomp.stage.Context.unit`).
    """
    module.eval()
    rest, number = iter(batches), 0
    done = Checkpoint(
        {"sums": torch.zeros(len(names), dtype=torch.float64), "generator": generator.get_state()},
        {"num_samples": 0},
    )
    while some := list(islice(rest, PORTION)):
        done = unit(f"traces-{number}", partial(traced, module, names, some, loss, num_probes, done))
        number += 1
    traces = done.tensors["sums"] / (done.numbers["num_samples"] * num_probes)
    return {
        name: float(trace) / module.get_parameter(name).numel()
        for name, trace in zip(names, traces, strict=True)
    }


def traced(
    module: nn.Module,
    names: Sequence[str],
    batches: Sequence[Batch],
    loss: Loss,
    num_probes: int,
    before: Checkpoint,
) -> Checkpoint:
    """Return the sums over samples and probes with those of some batches more, and the generator's state."""
    parameters = [module.get_parameter(name) for name in names]
    sums, num_samples = before.tensors["sums"].clone(), int(before.numbers["num_samples"])
    generator = Generator()
    generator.set_state(before.tensors["generator"])
    for batch in batches:
        output = module(**batch.inputs)
        gradients = torch.autograd.grad(loss(output, batch.target), parameters, create_graph=True)
        for probe in range(num_probes):
            signs = [random_signs(each, generator) for each in parameters]
            products = torch.autograd.grad(
                gradients, parameters, signs, retain_graph=probe + 1 < num_probes, allow_unused=True
            )
            found = [
                0.0 if product is None else float((product * sign).sum())
                for product, sign in zip(products, signs, strict=True)
            ]
            sums += len(batch.target) * torch.tensor(found, dtype=torch.float64)
        num_samples += len(batch.target)
    return Checkpoint({"sums": sums, "generator": generator.get_state()}, {"num_samples": num_samples})


def random_signs(like: Tensor, generator: Generator) -> Tensor:
    """Return -1 or 1 for each element."""
    drawn = torch.randint(0, 2, like.shape, generator=generator)
    return (2 * drawn - 1).to(like.dtype)
