"""The answer of a served folder, with what is wrong said in words."""

from __future__ import annotations

from pathlib import Path

from mcomp.errors import RecipeError, StageError, words
from mcomp.serve.predict import predict


def answer(folder: Path, said: str) -> dict[str, object]:
    """Return what the model in a folder says. Raises RecipeError if it is no such folder, or without the file
    that it is asked about; StageError for what the runtime or a decoder refuses.
    """
    if not (folder / "preprocessing.json").is_file():
        raise RecipeError(f"{folder} has no preprocessing.json: it is no folder that mcomp serve wrote")
    try:
        return predict(folder, said)
    except ModuleNotFoundError as error:
        what = f"{folder} needs {error.name}, which is not installed"
        raise StageError(f"{what}; pip install {error.name}") from error
    except FileNotFoundError as error:
        raise RecipeError(f"there is no file {error.filename}") from error
    except Exception as error:  # decoders and runtimes raise what they like
        raise StageError(f"{said} cannot be answered: {words(error)}") from error
