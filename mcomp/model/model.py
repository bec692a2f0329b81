"""The value that flows through a pipeline."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from mcomp.model.edits import Edit, State
from mcomp.model.spec import ModelConfig


@dataclass(frozen=True)
class Model:
    """A module in float, the spec it was built from, and the edits that made it what it is.

    `state` holds the tensors that belong to edits (see `mcomp.model.edits`).
    """

    module: nn.Module
    spec: ModelConfig
    edits: tuple[Edit, ...] = ()
    state: State = field(default_factory=dict)

    def copy(self) -> Model:
        """Return an independent model: a stage changes its copy, never its input."""
        state = {name: tensor.clone() for name, tensor in self.state.items()}
        return replace(self, module=copy.deepcopy(self.module), state=state)

    def edited(self, edit: Edit) -> Model:
        """Return a copy with one more edit applied; the weights that stay keep their values."""
        if any(earlier.last for earlier in self.edits):
            raise ValueError(f"{edit.kind}: the structure cannot change after {self.edits[-1].kind}")
        changed = self.copy()
        edit.apply(changed.module, changed.state)
        return replace(changed, edits=(*self.edits, edit))

    @property
    def quantized(self) -> bool:
        """Whether quantizers were inserted; only training and export are legal then."""
        return any(edit.last for edit in self.edits)

    def training_module(self, example: Mapping[str, Tensor]) -> nn.Module:
        """Return the module whose training trains this model: itself, or a captured graph that shares its
        parameters.
        """
        for edit in reversed(self.edits):
            module = edit.training_module(self, example)
            if module is not None:
                return module
        return self.module

    def with_trained(self, training_module: nn.Module) -> Model:
        """Return this model with what training changed outside of `module`: the edits' own tensors.

        `training_module` is what `training_module()` gave; it shares its parameters with `module`, so those
        are already trained.
        """
        state = dict(self.state)
        for edit in self.edits:
            state.update(edit.state_of(training_module))
        return replace(self, state=state).with_values()

    def with_values(self) -> Model:
        """Return this model after setting, in place, the parameters that follow from its edits' tensors."""
        for edit in self.edits:
            for name, value in edit.values(self.state).items():
                self.module.get_parameter(name).data.copy_(value)
        return self

    def inference_module(self, example: Mapping[str, Tensor]) -> nn.Module:
        """Return the module in inference mode that computes what is served: after QAT, with real integers."""
        for edit in reversed(self.edits):
            module = edit.inference_module(self, example)
            if module is not None:
                return module
        return self.module.eval()
