"""Models as transformers keeps them: a folder, or a name on the hub, with config.json and weights.

Free of torch and transformers: `plan` reads this.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mcomp import plainfile
from mcomp.errors import Problem, RecipeError, named, printable

if TYPE_CHECKING:
    from mcomp.data.contract import DataFacts

CONFIG = "config.json"
CONFIG_LIMIT_BYTES = 2**20
MOST_CLASSES = 2**20
# In the order in which they are looked for; pickles of others last.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
SAVED = "name a folder that save_pretrained wrote"
INSTALL = "pip install 'mcomp[transformers]'"


def architecture_in(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's config.json. Raises RecipeError if it is missing or broken."""
    path = folder / CONFIG
    try:
        text = plainfile.read(path, CONFIG_LIMIT_BYTES)
        content = json.loads(text, parse_constant=not_finite, parse_float=finite)
    except OSError as error:
        raise wrong(f"{path} cannot be read: {error.strerror}", SAVED) from error
    except (ValueError, RecursionError) as error:
        raise wrong(f"{path} is no JSON: {printable(str(error))}") from error
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise wrong(f"{path} says no model_type", SAVED)
    return content


def require_self_contained(architecture: dict[str, Any]) -> None:
    """Raise RecipeError for a configuration, or one inside it, that needs another model, has its weights in
    integers, or would make transformers write a list without an end.
    """
    if architecture.get("backbone") is not None:
        what = f"its backbone is another model, {named(str(architecture['backbone']))}"
        raise wrong(what, "which is not fetched: write its configuration as backbone_config", "architecture")
    if "quantization_config" in architecture:
        raise wrong("the weights are quantized already", "start from those in float")
    classes = architecture.get("num_labels")
    if isinstance(classes, int) and classes > MOST_CLASSES:
        raise wrong(f"num_labels is more than {MOST_CLASSES:,}", field="architecture")
    for inner in architecture.values():
        if isinstance(inner, dict):
            require_self_contained(inner)


def finite(text: str) -> float:
    """Return a number. Raises ValueError for one that is too large: a key could not hold it."""
    number = float(text)
    return number if math.isfinite(number) else not_finite(text)


def not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is no finite number")


def weights_in(folder: Path) -> Path:
    """Return the file with a folder's weights. Raises RecipeError if there is none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    next_step = "write pretrained: false for fresh ones, or name a checkpoint"
    raise wrong(f"{folder} holds no weights ({', '.join(WEIGHTS)})", next_step)


def hub_folder(name: str, revision: str, wanted: Sequence[str]) -> Path:
    """Return the local copy of a model on the hub; it is downloaded once, without any code.

    `wanted`: patterns of the files. Raises RecipeError if the hub cannot be reached or does not have it.
    """
    if find_spec("huggingface_hub") is None:
        raise wrong("needs the package huggingface_hub, which is not installed", INSTALL, "hub")
    from huggingface_hub import snapshot_download

    def copy(**where: Any) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(wanted), **where))

    try:
        folder = copy(local_files_only=True)
        if any(any(folder.glob(pattern)) for pattern in WEIGHTS):
            return folder
    except Exception:  # not in the cache, in one of the many ways the library has of saying so
        pass
    try:
        return copy()
    except Exception as error:  # the library passes on what its own libraries raise
        first = printable(str(error).strip().partition("\n")[0]) or type(error).__name__
        what = f"{name} could not be had from the Hugging Face hub: {first}"
        next_step = f"copy its folder ({CONFIG}, {WEIGHTS[0]}) from where it is, and write path: FOLDER"
        raise wrong(what, next_step, "hub") from error


def require_positions(architecture: Mapping[str, Any], facts: DataFacts) -> None:
    """Raise RecipeError if a text may have more tokens than a model has positions that were learnt."""
    positions = architecture.get("max_position_embeddings")
    computed = any("rope" in name or "relative" in name for name in architecture)
    sizes = [size.largest for axes in facts.varying.values() for size in axes.values()]
    if isinstance(positions, int) and not computed and max(sizes, default=0) > positions:
        what = f"has {positions} positions, and the data gives up to {max(sizes)} tokens"
        raise wrong(what, f"set max_length of the data to {positions} or less")


def wrong(what: str, next_step: str = "", field: str = "path") -> RecipeError:
    """Return the error for a field of the model."""
    return RecipeError(Problem("", field, what, next_step))
