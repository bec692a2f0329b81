"""Models of the library transformers: from a folder that `save_pretrained` wrote, or from the hub.

    model:
      type: transformers
      architecture:
        {model_type: bert, vocab_size: 1000, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2,
         intermediate_size: 64}
      output: embedding
      pooling: mean
      normalize: true

`path` names a folder with config.json and weights (safetensors, in one file or several, or a state dict),
`hub` a model on the Hugging Face hub, downloaded once. Fields of `architecture` replace those of config.json.
Code of others is never run: a model_type that transformers does not have is refused.

`output` is the name of one of the model's outputs (last_hidden_state, pooler_output, logits), or `embedding`:
one vector for each sample, made from the last hidden states of its tokens as sentence-transformers does, by
`pooling`, and divided by its length with `normalize`. The inputs are input_ids, attention_mask and
token_type_ids, or image. Attention is computed by plain operators, which runtimes and pruning know.

Source of the mean over tokens: Reimers and Gurevych 2019, arXiv:1908.10084 (section 3).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from mcomp.config import no_effect
from mcomp.model.spec import ModelConfig
from mcomp.recipe.files import NamedPath
from mcomp_stages.models.huggingface_folder import (
    CONFIG,
    INSTALL,
    WEIGHTS,
    architecture_in,
    hub_folder,
    require_positions,
    require_self_contained,
    weights_in,
    wrong,
)

if TYPE_CHECKING:
    from torch import nn

    from mcomp.data.contract import DataFacts

Family = Literal[
    "encoder",
    "masked_lm",
    "causal_lm",
    "sequence_classification",
    "token_classification",
    "image_classification",
]
CLASSIFIERS = ("sequence_classification", "token_classification", "image_classification")
# Where the weights come from, and not what they are: their digest is in the key.
ORIGIN = frozenset({"checkpoint", "licence", "path", "hub", "revision", "pretrained"})


class TransformersConfig(ModelConfig):
    """A model of the library transformers, with one of its outputs or an embedding."""

    libraries = ("transformers",)

    type: Literal["transformers"] = "transformers"
    path: NamedPath | None = no_effect(
        default=None, description="a folder with config.json and weights, relative to the recipe"
    )
    hub: str | None = no_effect(default=None, description="a name on the Hugging Face hub: owner/model")
    revision: str = no_effect(default="main", description="a branch, tag or commit on the hub")
    pretrained: bool = no_effect(
        default=True, description="take the weights of the folder, not fresh ones; `checkpoint` names others"
    )
    architecture: Annotated[
        dict[str, Any], Field(description="fields of config.json, in place of those of the folder")
    ] = {}
    family: Annotated[Family, Field(description="what stands behind the last hidden states")] = "encoder"
    output: Annotated[
        str | None, Field(description="embedding, or an output of the model; default: embedding or logits")
    ] = None
    pooling: Annotated[
        Literal["mean", "first"], Field(description="of an embedding: over all tokens, or the first alone")
    ] = "mean"
    normalize: Annotated[bool, Field(description="divide embeddings by their length")] = False
    num_classes: Annotated[
        int | None, Field(ge=1, description="of a classifier; default: the folder's, or the data's")
    ] = None

    @model_validator(mode="after")
    def comes_from_somewhere(self) -> TransformersConfig:
        """Refuse what leaves open which model is meant."""
        if self.path is not None and self.hub is not None:
            raise ValueError("path and hub are two places for one model; write one of them")
        if self.path is None and self.hub is None and "model_type" not in self.architecture:
            raise ValueError("needs path, hub, or an architecture with a model_type")
        if self.num_classes is not None and self.family not in CLASSIFIERS:
            raise ValueError(f"num_classes is for {', '.join(CLASSIFIERS)}")
        if (self.normalize or "pooling" in self.model_fields_set) and self.served_output != "embedding":
            raise ValueError("pooling and normalize are for output: embedding")
        return self

    @property
    def served_output(self) -> str:
        """The output that the model gives."""
        return self.output or ("embedding" if self.family == "encoder" else "logits")

    def fitted_to(self, facts: DataFacts) -> TransformersConfig:
        """Return a copy with the whole architecture, and with the folder's weights as its checkpoint.

        Raises RecipeError if the folder or the library is missing, or if the data has longer texts than it.
        """
        if find_spec("transformers") is None:
            raise wrong("needs the package transformers, which is not installed", INSTALL, "type")
        folder = self.folder()
        said = architecture_in(folder) if folder else {}
        architecture = {**said, **self.architecture}
        require_self_contained(architecture)
        require_positions(architecture, facts)
        changes: dict[str, Any] = {"architecture": architecture}
        if self.family in CLASSIFIERS and not {"num_labels", "id2label"} & architecture.keys():
            changes["num_classes"] = self.num_classes or facts.num_classes
        if folder and self.pretrained and self.checkpoint is None:
            changes["checkpoint"] = str(weights_in(folder))
        return self.model_copy(update=changes)

    def folder(self) -> Path | None:
        """Return the folder that holds the model, if it is in one."""
        return (
            hub_folder(self.hub, self.revision, (CONFIG, *WEIGHTS, "*.safetensors"))
            if self.hub
            else self.path
        )

    def spec(self) -> dict[str, Any]:
        # A validator refuses pooling of what is no embedding, even as the default.
        unused = set() if self.served_output == "embedding" else {"pooling"}
        return self.model_dump(mode="json", exclude={*ORIGIN, *unused})

    def build(self) -> nn.Module:
        from mcomp_stages.models.huggingface_module import build_model

        return build_model(
            self.architecture,
            self.family,
            self.served_output,
            pooling=self.pooling,
            normalize=self.normalize,
            num_classes=self.num_classes,
        )

    def fill(self, module: nn.Module, checkpoint: Path) -> None:
        from mcomp_stages.models.huggingface_weights import fill_model

        fill_model(module, checkpoint)
