"""Replace layers by products of thinner ones: fewer multiply-adds, the same channels between layers.

    prune:
      type: prune.lowrank
      target: {macs: 0.5}
      recover: {epochs: 4}

A linear or a 1x1 convolution becomes two (the truncated singular value decomposition), a larger convolution
becomes a 1x1, a small one and a 1x1 (Tucker-2). Ranks are multiples of `round_to`. They are chosen so that
all layers together lose the least energy (share of a weight's sum of squares) for the `macs` or `params` that
are to stay, or for the `latency_ms` to reach; or each layer keeps a share of its `energy`. `ranks` gives
those of some layers. What costs no less than the layer itself is not done, and with `measured: true` neither
is what is not faster in ONNX Runtime, each layer by itself; the report says which layers stay and why.

Grouped convolutions, masked weights and weights that several layers share are left as they are. Low rank
costs accuracy that comes back with training: give `recover`, best with `teachers`.

Sources: Kim et al. 2016, arXiv:1511.06530 (Tucker-2; section 3). Differs: ranks by lost energy and cost in
place of variational Bayes, and alternating least squares after the first guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mcomp.config import module_patterns
from mcomp.stage import Checkpoint, Context, Form, StageConfig, StageResult
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.lowrank.config import GivenRanks, LowRankTarget

if TYPE_CHECKING:
    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials
    from mcomp_stages.methods.lowrank.choice import Choice, Chosen


class PruneLowRank(StageConfig):
    """Give layers the ranks that a target allows, then train what is left."""

    forms: ClassVar[Mapping[Form, Form]] = {Form.FLOAT: Form.FLOAT}
    varies: ClassVar[str | None] = "ratio"

    type: Literal["prune.lowrank"] = "prune.lowrank"
    target: Annotated[
        LowRankTarget | None, Field(description="one of macs, params, energy, latency_ms; default: see ranks")
    ] = None
    ranks: Annotated[tuple[GivenRanks, ...], Field(description="ranks of some layers, given")] = ()
    layers: Annotated[
        tuple[str, ...],
        module_patterns(min_length=1, description="patterns of the layers that may be factorized"),
    ] = ("*",)
    skip: Annotated[
        tuple[str, ...], module_patterns(description="patterns of layers that stay as they are")
    ] = ()
    round_to: Annotated[int, Field(ge=1, description="ranks are multiples of this")] = 8
    nearest: Annotated[
        bool, Field(description="accept the nearest ranks below the target, also under 90 % of it")
    ] = False
    measured: Annotated[
        bool, Field(description="leave layers that are not faster in ONNX Runtime on this machine")
    ] = False
    recover: Annotated[
        DistilledTraining | None, Field(description="training after the change, also with teachers")
    ] = None

    @model_validator(mode="after")
    def says_how_much(self) -> PruneLowRank:
        """Refuse a stage that says nothing about ranks."""
        if self.target is None and not self.ranks:
            raise ValueError("say which ranks: a target, or ranks for some layers")
        return self

    def timed(self) -> bool:
        return self.measured or (self.target is not None and self.target.latency_ms is not None)

    def run(self, model: Model, context: Context) -> StageResult:
        """Factorize layers of a copy of `model`, prove it, and train it. Raises StageError."""
        from mcomp_stages.methods.lowrank.decompose import decomposed, require_equal_to_products
        from mcomp_stages.methods.lowrank.edit import LowRank
        from mcomp_stages.methods.pruning.recovery import recovered

        chosen: Mapping[str, Any] = context.unit("ranks", lambda: self.choose(model, context)).numbers
        edit = LowRank.model_validate(chosen["edit"])
        thin = decomposed(model, edit)
        require_equal_to_products(thin, model, edit, context.example)
        return recovered(thin, self.recover, chosen["facts"], context)

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        """Return one layer after the other, factorized. Raises StageError."""
        from mcomp_stages.methods.latency_target import Stopwatch
        from mcomp_stages.methods.lowrank.candidates import candidates
        from mcomp_stages.methods.lowrank.trials import lowrank_trials

        found, _ = candidates(model, context.example, self.layers, self.skip)
        return lowrank_trials(
            model, context.example, found, self.round_to, levels, lambda: Stopwatch(model, context, 1, 1)
        )

    def choose(self, model: Model, context: Context) -> Checkpoint:
        """Return the ranks as an edit, and what the report says of them. Raises StageError."""
        from mcomp.errors import StageError
        from mcomp_stages.methods.lowrank.candidates import candidates, given_ranks, why_left
        from mcomp_stages.methods.lowrank.choice import Choice
        from mcomp_stages.methods.lowrank.gain import speedup_of
        from mcomp_stages.methods.size import shares, totals

        found, left = candidates(model, context.example, self.layers, self.skip)
        if not found:
            raise StageError(f"no layer can be factorized{why_left(left)}")
        given = given_ranks(model.module, found, left, self.ranks)
        whole = totals(model, context.example)
        speedup = speedup_of(context) if self.measured else None
        choice = Choice(found, given, whole, self.round_to, self.nearest, speedup)
        chosen, facts = self.chosen(choice, model, context)
        edit = chosen.edit()
        facts |= {"ranks": chosen.facts()["ranks"], "left": {**left, **chosen.slow}}
        facts |= shares(model.edited(edit), whole, context.example)
        return Checkpoint(numbers={"edit": edit.model_dump(mode="json"), "facts": facts})

    def chosen(self, choice: Choice, model: Model, context: Context) -> tuple[Chosen, dict[str, Any]]:
        """Return the ranks for the target, and what is to be said of the way to it."""
        target = self.target
        if target is None:
            return choice.as_given(), {}
        if target.energy is not None:
            return choice.keeping_energy(target.energy), {}
        if target.latency_ms is not None:
            return fast_enough(choice, target, model, context)
        if target.macs is not None:
            return choice.keeping("macs", target.macs), {}
        assert target.params is not None
        return choice.keeping("params", target.params), {}


def fast_enough(
    choice: Choice, target: LowRankTarget, model: Model, context: Context
) -> tuple[Chosen, dict[str, Any]]:
    """Return the highest ranks that are fast enough. Raises StageError if none are."""
    from mcomp_stages.methods.latency_target import Stopwatch, largest_within

    assert target.latency_ms is not None
    watch = Stopwatch(model, context, target.batch_size, target.threads)
    found = largest_within(
        target.latency_ms,
        choice.smallest_share("macs"),
        watch.whole_ms,
        lambda share: choice.keeping("macs", share, nearest=True),
        lambda chosen: watch.ms(model.edited(chosen.edit())),
    )
    return found.made, {"latency": watch.facts(target.latency_ms, found.chosen.ms, found.tries)}
