"""Transformers of the library `transformers`, built from small configurations with random weights."""

from __future__ import annotations

from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn

from mcomp.model.spec import ModelConfig

transformers.logging.set_verbosity_error()

BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
TEXT = {"vocab_size": 60, "max_position_embeddings": 16}
LLAMA = {**BERT, **TEXT, "num_key_value_heads": 2, "use_cache": False, "bos_token_id": 1, "eos_token_id": 2}
T5 = {"vocab_size": 60, "d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 48, "num_layers": 2}
GPT2 = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16, "use_cache": False}
DISTILBERT = {"vocab_size": 60, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}
SWIN = {"image_size": 16, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}
CONVNEXT = {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2, "patch_size": 2, "image_size": 16}
IMAGE = {"image_size": 16, "patch_size": 4, "num_labels": 5}

# Name -> class of the model, class of its configuration, arguments.
TINY: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", "BertConfig", {**BERT, **TEXT, "num_labels": 3}),
    "bert_eager": ("BertModel", "BertConfig", {**BERT, **TEXT, "attn_implementation": "eager"}),
    "bert_tied": ("BertForMaskedLM", "BertConfig", {**BERT, **TEXT}),
    "vit": ("ViTForImageClassification", "ViTConfig", {**BERT, **IMAGE}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", LLAMA),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**LLAMA, "head_dim": 8}),
    "t5": ("T5EncoderModel", "T5Config", T5),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {**GPT2, "bos_token_id": 1, "eos_token_id": 2}),
    "distilbert": ("DistilBertModel", "DistilBertConfig", {**DISTILBERT, "max_position_embeddings": 16}),
    "albert": ("AlbertModel", "AlbertConfig", {**BERT, **TEXT, "embedding_size": 16}),
    "swin": ("SwinForImageClassification", "SwinConfig", {**SWIN, "window_size": 4, "num_labels": 5}),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig", {**CONVNEXT, "num_labels": 5}),
}
PICTURES = ("vit", "swin", "convnext")


class TinyConfig(ModelConfig):
    """One of them as an architecture of a recipe."""

    type: Literal["tiny"] = "tiny"
    name: str

    def build(self) -> nn.Module:
        model, config, arguments = TINY[self.name]
        module = getattr(transformers, model)(getattr(transformers, config)(**arguments))
        return module.eval()


def tiny_example(name: str) -> dict[str, Tensor]:
    """Return two pictures, or two sentences of which one is padded."""
    generator = torch.Generator().manual_seed(0)
    if name in PICTURES:
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=generator)}
    tokens = torch.randint(0, 60, (2, 7), generator=generator)
    return {"input_ids": tokens, "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2])}
