# O = rows of a weight, K = its columns, N = positions
"""Pruning by Hessians: equal to slow oracles, exact shares, and less lost than by magnitude."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.stage import Checkpoint
from mcomp_stages.methods.layer_hessian import output_error, with_damping
from mcomp_stages.methods.sparsity.chosen import chosen_weights
from mcomp_stages.methods.sparsity.config import Pattern
from mcomp_stages.methods.sparsity.fisher import SIZE, fisher_blocks, pruned_weight, removed
from mcomp_stages.methods.sparsity.layerwise import LayerPruning, pruned_by_layers
from mcomp_stages.methods.sparsity.second_order import METHODS, Goal, LayerMethod, obs, refined, swept, wanda
from tests.stages.methods.quantization.weights.nets import reader, tokens

PATTERN = Goal(0.5, Pattern(keep=2, of=4))


def problem(
    seed: int, rows: int = 4, columns: int = 12, num_samples: int = 40
) -> tuple[Tensor, Tensor, Tensor]:
    """A weight, inputs that depend on each other, and their Hessian."""
    generator = torch.Generator().manual_seed(seed)
    weight_OK = torch.randn(rows, columns, generator=generator)
    mix = torch.randn(columns, columns, generator=generator)
    x_NK = torch.randn(num_samples, columns, generator=generator) @ mix
    return weight_OK, x_NK, (2 / num_samples * x_NK.T @ x_NK).double()


def whole(weight: Tensor) -> Tensor:
    return torch.ones_like(weight, dtype=torch.bool)


def slow_obs(weight_OK: Tensor, hessian: Tensor, pattern: Pattern, damping: float) -> tuple[Tensor, Tensor]:
    """Row by row and column by column, with the inverse of what is left formed anew each time."""
    num_columns = len(hessian)
    damped = hessian + damping * hessian.diagonal().mean() * torch.eye(num_columns, dtype=torch.float64)
    rows, masks = [], []
    for row in weight_OK.double():
        w, kept = row.clone(), [True] * num_columns
        for column in range(num_columns):
            if column % pattern.of == 0:
                places = range(column, column + pattern.of)
                cost = {
                    place: w[place] ** 2 / torch.linalg.inv(damped[place:, place:])[0, 0] for place in places
                }
                for place in sorted(places, key=lambda each: cost[each])[: pattern.of - pattern.keep]:
                    kept[place] = False
            if not kept[column]:
                inverse = torch.linalg.inv(damped[column:, column:])
                w[column:] -= w[column] / inverse[0, 0] * inverse[:, 0]
                w[column] = 0.0
        rows.append(w)
        masks.append(torch.tensor(kept))
    return torch.stack(masks), torch.stack(rows).float()


@given(seed=st.integers(0, 10_000), n=st.integers(1, 3))
def test_the_sweep_equals_taking_every_row_alone(seed: int, n: int) -> None:
    weight, _, hessian = problem(seed)
    pattern = Pattern(keep=n, of=4)
    mask, pruned = swept(weight, hessian, Goal(1 - n / 4, pattern), 0.01, whole(weight))
    slow_mask, slow_pruned = slow_obs(weight, hessian, pattern, 0.01)
    assert torch.equal(mask, slow_mask)
    assert torch.allclose(pruned, slow_pruned, atol=1e-3, rtol=1e-3)


@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 0.95), method=st.sampled_from(["obs", "obd"]))
def test_the_share_of_a_layer_is_exact(seed: int, share: float, method: LayerMethod) -> None:
    weight, _, hessian = problem(seed, rows=3, columns=20)
    mask, pruned = METHODS[method](weight, hessian, Goal(share), 0.01, whole(weight))
    assert int((~mask).sum()) == round(share * weight.numel())
    assert not pruned[~mask].any()


def test_the_share_is_exact_over_several_blocks() -> None:
    weight, _, hessian = problem(0, rows=3, columns=300, num_samples=400)
    mask, _ = obs(weight, hessian, Goal(0.7), 0.01, whole(weight))
    assert int((~mask).sum()) == 630
    by_block = [(~part).double().mean().item() for part in mask.split(128, dim=1)]
    assert by_block == pytest.approx([0.7] * 3, abs=0.01)


@given(seed=st.integers(0, 10_000), goal=st.sampled_from([Goal(0.5), Goal(0.7), PATTERN]))
def test_changing_the_others_loses_less_than_leaving_them(seed: int, goal: Goal) -> None:
    weight, _, hessian = problem(seed)
    mask, pruned = obs(weight, hessian, goal, 0.01, whole(weight))
    damped = with_damping(hessian, 0.01)
    error = output_error(pruned - weight, damped)
    assert error <= output_error(weight * mask - weight, damped) * 1.001
    assert (
        error <= output_error(swept(weight, hessian, goal, 0.01, whole(weight))[1] - weight, damped) * 1.001
    )


@given(seed=st.integers(0, 10_000))
def test_refining_ends_at_the_least_squares_answer_of_a_row(seed: int) -> None:
    weight, _, hessian = problem(seed, rows=2, columns=6)
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) > 0.4
    damped = with_damping(hessian, 0.1)
    found = refined(weight.double(), (weight * mask).double(), mask, damped)
    for row, kept, answer in zip(weight.double(), mask, found, strict=True):
        slow = torch.zeros(6, dtype=torch.float64)
        slow[kept] = torch.linalg.solve(damped[kept][:, kept], damped[kept] @ row)
        assert torch.allclose(answer, slow, atol=1e-6)


def test_on_inputs_that_depend_on_each_other_obs_beats_magnitude() -> None:
    lost: dict[str, float] = dict.fromkeys(["obs", "wanda", "magnitude"], 0.0)
    for seed in range(5):
        weight, _, hessian = problem(seed, rows=8, columns=24)
        kept = weight.abs() >= weight.abs().flatten().kthvalue(weight.numel() // 2).values
        changes = {
            "obs": obs(weight, hessian, Goal(0.5), 0.01, whole(weight))[1],
            "wanda": wanda(weight, hessian, Goal(0.5), 0.01, whole(weight))[1],
            "magnitude": weight * kept,
        }
        for name, pruned in changes.items():
            lost[name] += output_error(pruned - weight, hessian)
    assert lost["obs"] < 0.6 * lost["magnitude"]
    assert lost["obs"] < lost["wanda"]


def test_wanda_takes_the_same_share_of_every_row_by_weight_and_input() -> None:
    weight = torch.tensor([[3.0, 2, 1, 4], [1, 1, 1, 1]])
    hessian = torch.diag(torch.tensor([1.0, 100, 1, 1]).double())
    mask, pruned = wanda(weight, hessian, Goal(0.5), 0.01, whole(weight))
    assert mask.tolist() == [[False, True, False, True], [False, True, False, True]]
    assert torch.equal(pruned, weight * mask)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("goal", [Goal(0.5), PATTERN])
def test_what_is_masked_already_stays_zero(method: LayerMethod, goal: Goal) -> None:
    weight, _, hessian = problem(3)
    held = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) > 0.3
    mask, pruned = METHODS[method](weight * held, hessian, goal, 0.01, held)
    assert not (mask & ~held).any()
    assert not pruned[~mask].any()


def test_a_singular_hessian_is_refused_with_the_damping() -> None:
    weight, _, hessian = problem(0)
    with pytest.raises(
        ValueError, match=r"singular or not positive with a damping of 0\.01; raise `damping`"
    ):
        obs(weight, -hessian, Goal(0.5), 0.01, whole(weight))


# Layers


def pruned(method: LayerMethod, goal: Goal, unit: object = None) -> tuple[Model, dict[str, float], Model]:
    model = reader()
    chosen = chosen_weights(model.module, skip=["head"])
    pruning = LayerPruning(method, goal, 0.01, [tokens(16)])
    keep = unit or (lambda label, compute: compute())
    result, losses = pruned_by_layers(model, chosen, pruning, keep)  # type: ignore[arg-type]
    return result, losses, model


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("goal", [Goal(0.6), Goal(0.4, Pattern(keep=3, of=5))])
def test_layers_are_pruned_in_turn_and_their_losses_told(method: LayerMethod, goal: Goal) -> None:
    result, losses, model = pruned(method, goal)
    for name in ("query", "key", "value", "conv"):
        mask = result.state[f"masks.{name}.weight"]
        weight = result.module.get_parameter(f"{name}.weight")
        assert not weight[~mask].any()
        assert (~mask).double().mean().item() == pytest.approx(goal.share, abs=0.01)
        assert 0 < losses[f"{name}.weight"] < 1
        if goal.pattern is not None:
            groups = mask.movedim(1, -1).reshape(-1, mask.shape[1] // 5, 5)
            assert (groups.sum(-1) == 3).all()
    assert model.state == {}


def test_finished_layers_are_not_done_again() -> None:
    kept: dict[str, Checkpoint] = {}

    def unit(label: str, compute: object) -> Checkpoint:
        if label not in kept:
            if len(kept) == stop:
                raise KeyboardInterrupt
            kept[label] = compute()  # type: ignore[operator]
        return kept[label]

    stop = 1
    with pytest.raises(KeyboardInterrupt):
        pruned("obs", Goal(0.5), unit)
    first = dict(kept)
    stop = 100
    resumed, losses, _ = pruned("obs", Goal(0.5), unit)
    assert all(kept[label] is done for label, done in first.items())
    again, same_losses, _ = pruned("obs", Goal(0.5))
    assert losses == same_losses
    assert all(torch.equal(resumed.state[name], mask) for name, mask in again.state.items())


def test_a_layer_that_never_runs_is_named() -> None:
    model = reader()
    model.module.add_module("spare", nn.Linear(4, 4))
    pruning = LayerPruning("obs", Goal(0.5), 0.01, [tokens(4)])
    with pytest.raises(StageError, match="spare: it never ran on the calibration samples"):
        pruned_by_layers(model, chosen_weights(model.module), pruning, lambda label, compute: compute())


# Fisher


def slow_removed(w: Tensor, fisher: Tensor, gone: Tensor) -> Tensor:
    """Optimal brain surgeon for several weights: w - F^-1[:, P] (F^-1[P, P])^-1 w_P."""
    inverse = torch.linalg.inv(fisher)
    return w - inverse[:, gone] @ torch.linalg.solve(inverse[gone][:, gone], w[gone])


@given(seed=st.integers(0, 10_000), number=st.integers(1, 7))
def test_removing_weights_together_is_the_surgeons_answer(seed: int, number: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(30, 8, generator=generator, dtype=torch.float64)
    fisher, w = g.T @ g / 30, torch.randn(8, generator=generator, dtype=torch.float64)
    gone = torch.zeros(8, dtype=torch.bool)
    gone[torch.randperm(8, generator=generator)[:number]] = True
    found = removed(w[None], fisher[None], gone[None])[0]
    assert torch.allclose(found, slow_removed(w, fisher, gone), atol=1e-6)


def test_the_cheapest_weights_go_and_blocks_are_filled_up() -> None:
    weight = torch.arange(1.0, SIZE + 7).view(2, -1)
    fisher = torch.eye(SIZE, dtype=torch.float64).repeat(2, 1, 1)
    mask, left = pruned_weight(weight, fisher, Goal(0.5), 0.01, torch.ones_like(weight, dtype=torch.bool))
    assert torch.equal(mask, weight > weight.numel() / 2)
    assert torch.equal(left, weight * mask)  # independent weights do not make up for each other


def test_a_loss_that_does_not_depend_on_a_weight_is_told() -> None:
    weight = torch.ones(2, 3)
    with pytest.raises(ValueError, match="the loss does not depend on it"):
        pruned_weight(weight, torch.zeros(1, SIZE, SIZE).double(), Goal(0.5), 0.01, whole(weight))


def test_blocks_are_means_over_single_samples() -> None:
    from mcomp_stages.methods.pruning.evidence import Evidence
    from tests.mcomp.training.setting import small_model, small_split

    model, split = small_model(), small_split(6, seed=0)
    evidence = Evidence(
        model.module, batches=lambda: iter([split.batch(torch.arange(6))]), loss=nn.functional.cross_entropy
    )
    (block,) = fisher_blocks(evidence, ["fc.weight"])["fc.weight"]
    slow = torch.zeros(12, 12, dtype=torch.float64)
    for position in range(6):
        batch = split.batch(torch.tensor([position]))
        loss = nn.functional.cross_entropy(model.module.eval()(**batch.inputs), batch.target)
        (g,) = torch.autograd.grad(loss, [model.module.fc.weight])
        slow += torch.outer(g.flatten().double(), g.flatten().double()) / 6
    assert torch.allclose(block[:12, :12], slow, atol=1e-9)
    assert not block[12:].any()
