"""Tiny models of transformers with fresh weights, saved into folders as theirs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

BERT = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
}
DISTILBERT = {
    "model_type": "distilbert",
    "vocab_size": 50,
    "dim": 16,
    "n_layers": 1,
    "n_heads": 2,
    "hidden_dim": 32,
    "max_position_embeddings": 24,
}
GPT2 = {"model_type": "gpt2", "vocab_size": 50, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 24}
VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 16,
    "patch_size": 8,
}


def saved(folder: Path, architecture: dict[str, Any], kind: str = "AutoModel", **settings: Any) -> Any:
    """Save a fresh model of transformers into a folder, and return it."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**architecture)
    model = getattr(transformers, kind).from_config(config).eval()
    model.save_pretrained(folder, **settings)
    return model


def sentences(number: int = 3, length: int = 9) -> dict[str, torch.Tensor]:
    """Return tokens of sentences, the first full, the others shorter and shorter."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 50, (number, length), generator=generator)
    mask = (torch.arange(length) < torch.arange(length, length - number, -1)[:, None]).long()
    return {"input_ids": tokens * mask, "attention_mask": mask}
