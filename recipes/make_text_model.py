"""Write a small sentence encoder, its tokenizer and sentences, for the recipes about transformers.

    python recipes/make_text_model.py

Everything goes into recipes/text_model and comes from this repository: the sentences are those of its
documentation, the tokenizer is learnt from them, and the encoder has fresh weights from a fixed seed. It
understands nothing; what a recipe shows with it is size, speed and faithfulness. For a real encoder copy its
folder to recipes/text_model/model and its tokenizer to recipes/text_model/tokenizer. Needs
`pip install 'mcomp[transformers]'`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "recipes" / "text_model"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
NUM_WORDS = 4000
SHORTEST = 20  # letters of a sentence that counts as one
ENCODER = {
    "model_type": "bert",
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "intermediate_size": 768,
    "max_position_embeddings": 128,
}


def documented_sentences() -> list[str]:
    """Return the sentences of the documentation, without tables, code and what repeats."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found: dict[str, None] = {}
    for page in pages:
        text = re.sub(r"```.*?```", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        prose = [line for line in text.split("\n") if not line.startswith(("|", "    ", "#"))]
        for sentence in re.split(r"(?<=[.:;?!])\s+", " ".join(prose)):
            plain = re.sub(r"\s+", " ", re.sub(r"[`*\[\]]|\(\S*\)", "", sentence)).strip(" -")
            if len(plain) >= SHORTEST:
                found[plain] = None
    return list(found)


def word_pieces(sentences: list[str]) -> Tokenizer:
    """Return a tokenizer of word pieces learnt from sentences."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=NUM_WORDS, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def main() -> None:
    """Write the folder."""
    transformers.logging.disable_progress_bar()
    sentences = documented_sentences()
    tokenizer = word_pieces(sentences)
    (FOLDER / "tokenizer").mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(FOLDER / "tokenizer" / "tokenizer.json"))
    (FOLDER / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    (FOLDER / "sentences.txt").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**ENCODER, vocab_size=tokenizer.get_vocab_size())
    transformers.AutoModel.from_config(config).save_pretrained(FOLDER / "model")
    print(f"{len(sentences)} sentences, {tokenizer.get_vocab_size()} word pieces: {FOLDER}")


if __name__ == "__main__":
    main()
