"""Weights as transformers saves them, into a model that is built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from transformers.utils import logging

from mcomp.errors import CheckpointError, Problem
from mcomp.model.fit import both_real, fill, tensors_of
from mcomp.model.weights import read_tensors, without_wrappers
from mcomp_stages.models.huggingface_module import Output, first_line, offline

SHOWN = 8


def fill_model(module: nn.Module, checkpoint: Path) -> None:
    """Copy the weights of a file into a model of `build_model`, in place.

    The file may have been saved from another head on the same body, or in half precision: transformers itself
    finds which tensor goes where. What the file has for other heads is left. Raises CheckpointError if it is
    broken, lacks a weight of the model, or does not fit; the module is left as it was.
    """
    assert isinstance(module, Output)
    tensors = read_tensors(checkpoint)
    own = without_wrappers(tensors, tensors_of(module))
    if own.keys() == tensors_of(module).keys():  # saved from the very module, not by transformers
        return fill(module, own, str(checkpoint), both_real)
    body = module.model
    floats = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }
    with quiet(), offline(), torch.random.fork_rng(devices=[]):
        try:
            loaded, found = type(body).from_pretrained(  # type: ignore[attr-defined]
                None,
                config=body.config,
                state_dict=floats,
                output_loading_info=True,
                attn_implementation="eager",
                dtype=torch.float32,
            )
        except RuntimeError as error:
            raise CheckpointError(f"{checkpoint} does not fit the model: {first_line(error)}") from error
    expected = tensors_of(body)
    missing = sorted(expected.keys() & set(found["missing_keys"]))
    if missing:
        what = f"{checkpoint} lacks {len(missing)} of the {len(expected)} tensors of {type(body).__name__}"
        next_step = "choose the family that it was trained as"
        raise CheckpointError(Problem("", "", what, next_step, more=tuple(missing[:SHOWN])))
    weights = tensors_of(loaded)
    return fill(body, {name: weights[name] for name in expected}, str(checkpoint), both_real)


@contextmanager
def quiet() -> Iterator[None]:
    """Let transformers load without a bar and without remarks: what does not fit is raised."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
