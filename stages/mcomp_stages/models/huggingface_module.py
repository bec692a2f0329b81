"""A model of transformers behind one plain call: named tensors in, one tensor out."""

# N = samples, L = tokens, W = width
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from huggingface_hub import constants
from torch import Tensor, nn
from torch.nn import functional

from mcomp.errors import Problem, RecipeError, StageError

CLASSES = {
    "encoder": "AutoModel",
    "masked_lm": "AutoModelForMaskedLM",
    "causal_lm": "AutoModelForCausalLM",
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "image_classification": "AutoModelForImageClassification",
}
SMALLEST_SUM = 1e-9


class Output(nn.Module):
    """A model of transformers that gives one of its outputs, or an embedding of it."""

    def __init__(self, model: nn.Module, output: str, pooling: str, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.output, self.pooling, self.normalize = output, pooling, normalize

    def chosen(self, mask_NL: Tensor | None, **inputs: Tensor | None) -> Tensor:
        """Run the model and return what is asked for."""
        name = "last_hidden_state" if self.output == "embedding" else self.output
        given = self.model(**{key: value for key, value in inputs.items() if value is not None})
        tensor = given.get(name)
        if not isinstance(tensor, Tensor):
            raise StageError(f"{type(self.model).__name__} gives {', '.join(given)}, and no {name}")
        return self.embedding(tensor, mask_NL) if self.output == "embedding" else tensor

    def embedding(self, hidden_NLW: Tensor, mask_NL: Tensor | None) -> Tensor:
        """Return one vector for each sample (N, W)."""
        vector_NW = POOLING[self.pooling](hidden_NLW, mask_NL)
        return functional.normalize(vector_NW, dim=1) if self.normalize else vector_NW


class TextModel(Output):
    """Takes `input_ids` and the like (N, L), integers; `attention_mask` is 0 where there is padding."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        return self.chosen(
            attention_mask,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
        )


class ImageModel(Output):
    """Takes `image` (N, C, H, W)."""

    def forward(self, image: Tensor) -> Tensor:
        return self.chosen(None, pixel_values=image)


def mean_of_tokens(hidden_NLW: Tensor, mask_NL: Tensor | None) -> Tensor:
    """Return the mean over the tokens that are no padding (N, W)."""
    if mask_NL is None:
        return hidden_NLW.mean(1)
    weight_NL1 = mask_NL.unsqueeze(-1).to(hidden_NLW.dtype)
    return (hidden_NLW * weight_NL1).sum(1) / weight_NL1.sum(1).clamp(min=SMALLEST_SUM)


def first_token(hidden_NLW: Tensor, mask_NL: Tensor | None) -> Tensor:
    """Return the first token (N, W); a tokenizer puts padding behind."""
    return hidden_NLW[:, 0]


POOLING = {"mean": mean_of_tokens, "first": first_token}


def build_model(
    architecture: Mapping[str, Any],
    family: str,
    output: str,
    *,
    pooling: str,
    normalize: bool,
    num_classes: int | None,
) -> Output:
    """Return a model with fresh weights in float32. Raises RecipeError if transformers does not have it.

    A pooler that the output does not pass through is left out.
    """
    config = configuration(architecture, num_classes)
    builder = getattr(transformers, CLASSES[family])
    try:
        with offline():
            model = builder.from_config(
                config, attn_implementation="eager", dtype=torch.float32, trust_remote_code=False
            )
    except Exception as error:  # each architecture has a way of its own to say that a size does not fit
        what = f"transformers cannot build {config.model_type} as {family}: {first_line(error)}"
        raise RecipeError(Problem("", "architecture", what)) from error
    if output != "pooler_output" and isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = None
    kind = ImageModel if model.main_input_name == "pixel_values" else TextModel
    return kind(model.eval(), output, pooling, normalize)


def configuration(architecture: Mapping[str, Any], num_classes: int | None) -> Any:
    """Return the configuration object for the content of a config.json. Raises RecipeError."""
    fields = dict(architecture)
    kind = fields.pop("model_type", None)
    classes = {} if num_classes is None else {"num_labels": num_classes}
    try:
        with offline():
            config = transformers.AutoConfig.for_model(kind, **{**fields, **classes})
    except Exception as error:  # each configuration checks its fields in a way of its own
        what = f"transformers {transformers.__version__} has no {kind}, or not with these fields"
        next_step = f"code of others is never run ({first_line(error)})"
        raise RecipeError(Problem("", "architecture", what, next_step)) from error
    config.use_cache = False  # a served file has no state between calls
    return config


@contextmanager
def offline() -> Iterator[None]:
    """Let nothing be fetched from the hub: some configurations can name other models."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def first_line(error: Exception) -> str:
    """Return the beginning of an error's text."""
    return str(error).strip().partition("\n")[0][:200]
