"""A tokenizer as data: tokenizer.json and what lies beside it. Nothing of it is run; free of torch."""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mcomp import plainfile
from mcomp.errors import Problem, RecipeError

NAME = "tokenizer.json"
# Where the padding token is said beside the tokenizer itself, newest first.
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
INSTALL = "pip install 'mcomp[transformers]'"
TOKENIZER_LIMIT_BYTES = 64 * 2**20


def tokenizer_file(path: Path) -> Path:
    """Return the tokenizer.json that is meant. Raises RecipeError if it or the library is missing."""
    if find_spec("tokenizers") is None:
        raise wrong("needs the package tokenizers, which is not installed", INSTALL)
    file = path / NAME if path.is_dir() else path
    if not file.is_file():
        made = f"AutoTokenizer.from_pretrained({path.name!r}).save_pretrained({path.name!r})"
        raise wrong(f"{path} has no {NAME}", f"write it with transformers: {made}")
    if file.stat().st_size > TOKENIZER_LIMIT_BYTES:
        raise wrong(f"{file} is larger than {TOKENIZER_LIMIT_BYTES // 2**20} MiB: no tokenizer is")
    return file


def library_version() -> str:
    """Return the version of what turns text into tokens."""
    return version("tokenizers")


def pad_token(path: Path, chosen: str | None) -> str:
    """Return the token that fills up short sentences. Raises RecipeError if nothing names it."""
    if chosen is not None:
        return chosen
    file = tokenizer_file(path)
    padding = content(file).get("padding")
    if isinstance(padding, dict) and isinstance(padding.get("pad_token"), str):
        return str(padding["pad_token"])
    for name in SETTINGS:
        token = content(file.with_name(name)).get("pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            return token
    raise wrong(f"{file} and the files beside it name no padding token", "write pad_token: ...")


def content(file: Path) -> dict[str, Any]:
    """Return what a JSON file holds, nothing if it is not there. Raises RecipeError for a broken one."""
    try:
        found = json.loads(plainfile.read(file, TOKENIZER_LIMIT_BYTES))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise wrong(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise wrong(f"{file} is no JSON") from error
    return found if isinstance(found, dict) else {}


def wrong(what: str, next_step: str = "") -> RecipeError:
    """Return the error for the tokenizer."""
    return RecipeError(Problem("", "tokenizer", what, next_step))
