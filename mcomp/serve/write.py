"""Write the folder that serves an exported model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcomp.errors import RecipeError, StoreError
from mcomp.measure.runtime import Exported
from mcomp.serve.card import model_card
from mcomp.store.disk import FULL
from mcomp.store.ledger import Ledger, Row

SCRIPT = Path(__file__).with_name("predict.py")


def write_served(
    folder: Path,
    exported: Exported,
    row: Row,
    ledger: Ledger,
    preprocessing: Mapping[str, Any],
    files: Mapping[str, Path],
) -> None:
    """Write model, card, preprocessing and labels into a new folder, with a script that runs them.

    `preprocessing` is what the data says of its inputs, with the names of the classes below `labels`; `files`
    are what it needs beside. Raises RecipeError if the folder holds something, StoreError if it is full or
    cannot be written; then nothing of it is left.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"{folder} is not empty: name a new folder")
    assert row.served is not None
    settings = {key: value for key, value in preprocessing.items() if key != "labels"}
    settings |= {"file": exported.file.name, "runtime": row.served.runtime, "session": row.served.session}
    texts = {
        "preprocessing.json": json.dumps(settings, indent=1),
        "labels.json": json.dumps(preprocessing.get("labels") or []),
        "model_card.md": model_card(row, ledger, settings),
        "figures.json": row.served.model_dump_json(indent=1),
    }
    new = folder.with_name(f".{folder.name}.new")
    try:
        new.mkdir(parents=True)
        for path in (exported.file, *exported.beside):
            shutil.copyfile(path, new / path.name)
        for name, path in {**files, "predict.py": SCRIPT}.items():
            shutil.copyfile(path, new / name)
        for name, text in texts.items():
            (new / name).write_text(text, encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        new.rename(folder)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        why = "there is no room" if error.errno in FULL else error.strerror
        raise StoreError(f"{folder} cannot be written: {why}; name another folder, or make room") from error
