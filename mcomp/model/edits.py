"""Replayable changes of a model's structure: what turns a freshly built architecture into a compressed one.

An edit is a small typed record. Loading a checkpoint builds the architecture, replays the edits in order and
fills the tensors, so a pruned or quantized model needs no pickle. `state` holds the tensors that belong to
edits and not to the module: masks (`masks.<parameter>`) and quantizers (`quantizers.<site>.<name>`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, FailFast, Field

from mcomp.config import Config

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mcomp.model.model import Model

State = dict[str, "Tensor"]


class Edit(Config):
    """One change. `last` marks an edit after which the structure may not change any more."""

    last: ClassVar[bool] = False
    kind: str

    def apply(self, module: nn.Module, state: State) -> None:
        """Change `module` and `state` in place.

        Raises ValueError, naming the parameter, if the module does not have what the edit is about.
        """
        raise NotImplementedError

    def values(self, state: State) -> State:
        """Return the parameters that follow from the edit's own tensors: on disk these are kept alone."""
        return {}

    def training_module(self, model: Model, example: Mapping[str, Tensor]) -> nn.Module | None:
        """Return the module to train in place of `model.module`, or None if the edit needs none."""
        return None

    def state_of(self, training_module: nn.Module) -> State:
        """Return what training changed in the edit's own tensors, by their names in `Model.state`."""
        return {}

    def inference_module(self, model: Model, example: Mapping[str, Tensor]) -> nn.Module | None:
        """Return the module that computes what will be served, or None if `model.module` does."""
        return None


def each_once(keep: tuple[int, ...]) -> tuple[int, ...]:
    """Return the indices. Raises ValueError if one is kept twice: a cut never makes anything larger."""
    if len(set(keep)) < len(keep):
        raise ValueError("an index is kept twice")
    return keep


Index = Annotated[int, Field(ge=0)]


class Slice(Config):
    """Keep the indices `keep` of one axis of one parameter or buffer."""

    name: str
    axis: Index
    keep: Annotated[tuple[Index, ...], FailFast(), Field(min_length=1), AfterValidator(each_once)]


class Attribute(Config):
    """A number that a module remembers about its shape (`out_channels`, `groups`, `num_heads`)."""

    module: str
    name: str
    value: int | tuple[int, ...]


def names_of_tensors(module: nn.Module) -> dict[str, list[str]]:
    """Return all the names of the tensor behind each name of a parameter or buffer: several if it is tied."""
    named = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    by_identity: dict[int, list[str]] = {}
    for name, tensor in named:
        by_identity.setdefault(id(tensor), []).append(name)
    return {name: by_identity[id(tensor)] for name, tensor in named}


class KeepChannels(Edit):
    """Cut whole channels: slice parameters and buffers, and set the attributes that follow."""

    kind: Literal["keep_channels"] = "keep_channels"
    slices: tuple[Slice, ...]
    attributes: tuple[Attribute, ...] = ()

    def apply(self, module: nn.Module, state: State) -> None:
        import torch

        aliases = names_of_tensors(module)
        for cut in self.slices:
            owner, _, name = cut.name.rpartition(".")
            tensor = getattr(module.get_submodule(owner), name, None)
            is_there = tensor is not None and cut.name in aliases and tensor.ndim > cut.axis
            if tensor is None or not is_there or tensor.shape[cut.axis] <= max(cut.keep):
                raise ValueError(f"{cut.name} has no axis {cut.axis} with the kept indices")
            index = torch.tensor(cut.keep, device=tensor.device)
            kept = tensor.detach().index_select(cut.axis, index)
            if isinstance(tensor, torch.nn.Parameter):
                kept = torch.nn.Parameter(kept, requires_grad=tensor.requires_grad)
            for alias in aliases[cut.name]:  # tied tensors stay tied
                owner, _, name = alias.rpartition(".")
                setattr(module.get_submodule(owner), name, kept)
            mask = state.get(f"masks.{cut.name}")
            if mask is not None:
                state[f"masks.{cut.name}"] = mask.index_select(cut.axis, index)
        for change in self.attributes:
            part = module.get_submodule(change.module)
            if not is_shape(getattr(part, change.name, None)) or change.name.startswith("_"):
                raise ValueError(f"{change.module} has no number called {change.name}")
            setattr(part, change.name, change.value)


def is_shape(value: object) -> bool:
    """Return whether something that a module remembers is one that a cut may change."""
    return isinstance(value, int | tuple) and not isinstance(value, bool)


class CuttableAttention(Edit):
    """Let the `nn.MultiheadAttention` at each of the paths have fewer heads than torch's own allows."""

    kind: Literal["cuttable_attention"] = "cuttable_attention"
    modules: tuple[str, ...]

    def apply(self, module: nn.Module, state: State) -> None:
        from torch.nn import MultiheadAttention

        from mcomp.model.attention import make_cuttable

        for path in self.modules:
            attention = module.get_submodule(path)
            if type(attention) is not MultiheadAttention:
                raise ValueError(f"{path} is no nn.MultiheadAttention")
            make_cuttable(attention)


class Masks(Edit):
    """Weights held at zero by every later training step; the masks themselves are in `state`, as bool."""

    kind: Literal["masks"] = "masks"
    names: tuple[str, ...]

    def apply(self, module: nn.Module, state: State) -> None:
        import torch

        for name in self.names:
            shape = module.get_parameter(name).shape
            mask = state.setdefault(f"masks.{name}", torch.ones(shape, dtype=torch.bool))
            if mask.shape != shape:
                raise ValueError(
                    f"the mask of {name} has shape {tuple(mask.shape)}, the weight {tuple(shape)}"
                )


def masked_weights(state: State) -> tuple[str, ...]:
    """Return the parameters that are masked now: those of a part that was left out later are not."""
    return tuple(name.removeprefix("masks.") for name in state if name.startswith("masks."))
