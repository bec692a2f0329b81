"""The one training loop. Stages differ in the loss they hand to it and in what their model trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn

from mcomp.data.sampler import EpochSampler, cut_batches
from mcomp.errors import StageError
from mcomp.fingerprint import sub_seed
from mcomp.measure.accuracy import Evaluation, evaluate
from mcomp.model.model import Model
from mcomp.signals import raise_if_interrupted
from mcomp.stage import Context, Progress
from mcomp.training.companions import Companions, student_of
from mcomp.training.config import Training
from mcomp.training.constraints import Constrain, ZeroedWeights
from mcomp.training.device import (
    borrowed_generators,
    borrowed_threads,
    chosen_device,
    device_of,
    make_fabric,
    on_device,
    to_device,
)
from mcomp.training.nonfinite import require_finite_weights
from mcomp.training.optimizers import OwnRates, make_optimizer, make_schedule
from mcomp.training.resume import Resumable
from mcomp.training.state import Epoch, TrainState
from mcomp.training.update import Loss, Update

Prepare = Callable[[nn.Module, int], None]
"""Set what depends on the number of updates so far."""

Beside = Callable[[nn.Module], Companions]
"""Puts a module that is to be trained, and is on its device, together with what is trained beside it."""


@dataclass(frozen=True)
class Fit:
    """A trained model and how it got there; `kept` is the epoch whose weights it has.

    `notes` is what else a report shows, as plain JSON.
    """

    model: Model
    history: tuple[Epoch, ...]
    kept: Epoch
    notes: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Return what a report shows of the training, as plain JSON."""
        facts = {
            "epochs": len(self.history),
            "best_epoch": self.kept.number,
            "history": [asdict(epoch) for epoch in self.history],
            **self.notes,
        }
        if self.kept.gradient_error is not None:
            facts["gradient_error"] = self.kept.gradient_error
        return facts


def fit(
    model: Model,
    training: Training,
    context: Context,
    *,
    label: str,
    loss: Loss,
    beside: Beside | None = None,
    own_rates: OwnRates | None = None,
    prepare: Prepare | None = None,
    constrain: Constrain | None = None,
) -> Fit:
    """Return a trained copy of `model`; `label` stands beside the progress bar.

    `loss` gets the output of the module, or of the companions that `beside` makes of it. `own_rates` are for
    parameters that learn at another rate. `prepare` is called before each update with the module and the
    number of updates so far; what it sets must follow from this number alone.

    Weights that earlier stages masked stay zero; `constrain` adds what shall hold beside that. On the CPU the
    same seed and threads give the same bytes, also when the step is interrupted and goes on from
    `context.checkpoints`; a stage that calls this more than once gives each call a label of its own.
    Raises StageError, naming the update and the module, before an update with a loss or a gradient that is
    not finite, and if training left every weight as it was.
    """
    device = chosen_device(context.compute)
    trained = placed_copy(model, device)
    seed = sub_seed(context.seed, "dropout")
    with borrowed_threads(context.compute.threads), borrowed_generators(seed):
        student = trained.training_module(context.example.to(device))
        zeroed = ZeroedWeights(student, trained.state)
        module = beside(student) if beside is not None else student
        state = start(module, training, context, own_rates)
        state.constraint = constrain(student) if constrain else None
        fabric = make_fabric(context.compute, device)
        update = Update(state, fabric, loss, zeroed, training)
        resumable = Resumable(state, fabric.strategy.precision, context, label, training.checkpoint)
        resumable.resume()
        with (
            resumable.saved_when_interrupted(),
            context.reporter.progress(label, num_updates(training, context)) as progress,
        ):
            progress.advance(state.num_updates)
            run_epochs(resumable, update, training, progress, prepare)
        resumable.save()
    kept = load_kept(state, training)
    if isinstance(module, Companions):
        module.release()
    result = returned(trained.with_trained(student))
    require_changed(model.module, result.module)
    return Fit(result, tuple(state.history), kept)


def num_updates(training: Training, context: Context) -> int:
    """Return how many updates a training makes unless it stops early."""
    return training.epochs * len(cut_batches(len(context.data.split("train")), context.batch_size))


def start(module: nn.Module, training: Training, context: Context, own_rates: OwnRates | None) -> TrainState:
    """Return the state before the first update."""
    num_samples = len(context.data.split("train"))
    sampler = EpochSampler(num_samples, context.batch_size, sub_seed(context.seed, "sampler"))
    if own_rates is not None and isinstance(module, Companions):
        own_rates = replace(own_rates, prefix=f"student.{own_rates.prefix}")
    optimizer = make_optimizer(module, training, own_rates)
    schedule = make_schedule(optimizer, training, num_updates(training, context))
    return TrainState(module, optimizer, schedule, sampler)


def run_epochs(
    resumable: Resumable, update: Update, training: Training, progress: Progress, prepare: Prepare | None
) -> None:
    """Train until the epochs are done or validation has stopped improving; changes the state in place."""
    state, context = resumable.state, resumable.context
    while len(state.history) < training.epochs and not stopped_early(state, training):
        run_epoch(resumable, update, progress, prepare)
        require_finite_weights(state.module, f"after epoch {state.sampler.epoch}")
        with borrowed_generators(sub_seed(context.seed, "validation")):
            reached = evaluated(state.module, update.module, context)
        with state.change():
            state.end_epoch(reached.metric, reached.loss, context.task.direction)


def evaluated(module: nn.Module, running: nn.Module, context: Context) -> Evaluation:
    """Return how good what is trained is on validation; `running` calls it in the chosen precision."""
    validation, device = context.data.split("validation"), device_of(module)
    if isinstance(module, Companions):
        return module.evaluated(running, validation, context.task, device)
    return evaluate(running, validation, context.task, device=device)


def run_epoch(resumable: Resumable, update: Update, progress: Progress, prepare: Prepare | None) -> None:
    """Update on every batch that is left in the epoch."""
    state, context = resumable.state, resumable.context
    train = context.data.split("train")
    device = device_of(state.module)
    state.module.train()
    reached = {context.task.metric_name: state.history[-1].metric} if state.history else {}
    for positions in state.sampler.rest_of_epoch():
        raise_if_interrupted()
        where = f"epoch {state.sampler.epoch + 1}, batch {state.sampler.position} of {len(state.sampler)}"
        if prepare is not None:
            prepare(student_of(state.module), state.num_updates)
        with state.change():  # loading included: a provider may draw from a global generator
            loss = update(to_device(train.batch(positions, state.sampler.draw), device), where)
            state.end_batch(loss, len(positions), update.rounding())
        resumable.save_if_due()
        progress.advance(1, loss=loss, **reached)


def stopped_early(state: TrainState, training: Training) -> bool:
    """Whether the patience of early stopping has run out."""
    if training.early_stop is None or state.best is None:
        return False
    return len(state.history) - state.best.epoch.number >= training.early_stop.patience


def load_kept(state: TrainState, training: Training) -> Epoch:
    """Load the weights of the epoch to keep into the module, in place, and return that epoch."""
    if training.keep == "last":
        return state.history[-1]
    assert state.best is not None
    state.module.load_state_dict(state.best.tensors)
    return state.best.epoch


def placed_copy(model: Model, device: torch.device) -> Model:
    """Return a copy on `device`; a graph shares only what is not moved after it was captured."""
    copy = model.copy()
    copy.module.to(device)
    return replace(copy, state=on_device(copy.state, device))


def returned(model: Model) -> Model:
    """Return a trained model on the CPU and in inference mode."""
    model.module.eval().to("cpu")
    return replace(model, state=on_device(model.state, torch.device("cpu")))


def require_changed(before: nn.Module, after: nn.Module) -> None:
    """Raise StageError if no parameter differs."""
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    if all(torch.equal(old.cpu(), new) for old, new in pairs):
        raise StageError("training left every weight as it was")
