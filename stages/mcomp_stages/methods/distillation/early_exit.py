"""A network that ends at one of its heads: what is gone, and the proof that it says what its head says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp_stages.methods.distillation.adapters import Shape, width
from mcomp_stages.methods.distillation.exit_edit import Bottleneck, EarlyExit
from mcomp_stages.methods.distillation.proposals import called_once, feature_shapes

LARGEST_DIFFERENCE = 1e-4  # of two ways to sum the same numbers, relative to the largest of them


def ending_at(module: nn.Module, path: str, last: str, example: Mapping[str, Tensor]) -> EarlyExit:
    """Return the edit with which a network goes from `path` to the classifier behind `last`.

    Raises StageError if either is no map, or if no linear reads the features of `last`.
    """
    shapes = feature_shapes(module, example)
    early, wanted = shapes[path], shapes[last]
    if not len(early) == len(wanted) == 3 or any(map(int.__mod__, early[1:], wanted[1:])):
        raise StageError(
            f"byot: keep: {path} gives {early} for a sample and {last} {wanted}; only maps whose sides are "
            "multiples of those of the last ones can be kept"
        )
    return EarlyExit(
        place=last,
        left_out=between(list(shapes), path, last),
        classifier=classifier(module, list(shapes), wanted, path),
        bottleneck=Bottleneck(
            rectangle=(early[1] // wanted[1], early[2] // wanted[2]),
            inputs=width(early),
            outputs=width(wanted),
        ),
    )


def between(done: Sequence[str], path: str, last: str) -> tuple[str, ...]:
    """Return the modules that run after one and before another, without the parts of them.

    `done` are the paths in the order in which modules end.
    """
    after = done[done.index(path) + 1 : done.index(last)]
    inside = [
        each for each in after if not f"{path}.".startswith(f"{each}.") and not each.startswith(f"{last}.")
    ]
    return tuple(each for each in inside if not any(each.startswith(f"{other}.") for other in inside))


def classifier(module: nn.Module, done: Sequence[str], last: Shape, path: str) -> str:
    """Return the path of the last linear. Raises StageError unless it reads the last features."""
    linears = [each for each in done if isinstance(module.get_submodule(each), nn.Linear)]
    if not linears or module.get_submodule(linears[-1]).in_features != width(last):
        raise StageError(f"byot: keep: {path}: no linear classifies the {width(last)} last features")
    return linears[-1]


def ended(model: Model, edit: EarlyExit, bottleneck: nn.Sequential, head: nn.Linear) -> Model:
    """Return a copy of a model that ends at a head, with the head's weights."""
    short = model.edited(edit)
    weights = {
        edit.place: {f"1.{name}": value for name, value in bottleneck[0].state_dict().items()},
        edit.classifier: head.state_dict(),
    }
    for path, tensors in weights.items():
        short.module.get_submodule(path).load_state_dict(tensors)
    return short


def require_same(short: Model, said: Tensor, path: str, example: Mapping[str, Tensor]) -> None:
    """Raise StageError unless a network that ends early says what its head said of the same samples."""
    given = called_once(short.module, example)
    if given.shape == said.shape and (given - said).abs().max() <= LARGEST_DIFFERENCE * said.abs().max():
        return
    raise StageError(
        f"byot: keep: {path}: the model does more behind it than modules in a row, a mean and a linear, and "
        "cannot end there; keep another head, or leave keep out"
    )
