"""Networks of an architecture with weights that nothing has trained yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from pydantic import ValidationError

from mcomp import plugins
from mcomp.errors import StageError
from mcomp.fingerprint import sub_seed
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig

FROM_THE_DATA = ("in_channels", "num_classes", "image_size")


def fresh(spec: ModelConfig, seed: int, purpose: str) -> Model:
    """Return a model with weights that depend on the seed and on `purpose` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sub_seed(seed, purpose))
        return Model(spec.build(), spec)


def require_as_built(model: Model, why: str) -> None:
    """Raise StageError for a model that was changed since it was built: fresh weights would not fit it."""
    if model.edits:
        changes = ", ".join(edit.kind for edit in model.edits)
        raise StageError(
            f"{why} starts networks with fresh weights, which a changed model ({changes}) does not have; "
            "put this stage before the one that changed it"
        )


def beside(own: ModelConfig, said: Mapping[str, Any]) -> ModelConfig:
    """Return the architecture that `said` describes: other fields of the model's own type, or another type.

    What the data says (channels, classes, size) is as in the model. Raises StageError for what no model has.
    """
    name = str(said.get("type", own.type))
    kind = type(own) if name == own.type else cast(type[ModelConfig], plugins.load("models", name))
    known = own.spec()
    if kind is not type(own):
        known = {field: known[field] for field in FROM_THE_DATA if field in known.keys() & kind.model_fields}
    try:
        return kind.model_validate({**known, **said, "type": name})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise StageError(f"no {name} can be built beside the model: {wrong}", about=said) from error
