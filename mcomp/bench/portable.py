"""A folder that times files on another machine: the files, a script, and its settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from mcomp.bench import standalone_source
from mcomp.bench.run import Setting
from mcomp.errors import RecipeError, StoreError
from mcomp.measure.runtime import runtime_of
from mcomp.measure.saturation import has_wide_sums

SCRIPT, SETTINGS = "bench.py", "settings.json"


def write_portable(paths: Sequence[Path], folder: Path, setting: Setting) -> str:
    """Write the folder, and return what to do with it.

    Raises RecipeError for files that are no ONNX files and a folder that holds something, StoreError if it
    cannot be written.
    """
    others = [path for path in paths if not path.is_file() or runtime_of(path) != "onnxruntime"]
    if others:
        raise RecipeError(f"{others[0]} is no ONNX file: the script needs numpy and onnxruntime alone")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RecipeError(f"{folder} is not empty: name a new folder")
        for path in paths:
            for each in (path, path.with_name(f"{path.name}.data")):
                if each.is_file():
                    shutil.copyfile(each, folder / each.name)
        (folder / SCRIPT).write_text(standalone_source(), encoding="utf-8")
        settings = {
            "files": [path.name for path in paths],
            "wide_sums": [path.name for path in paths if has_wide_sums(path)],
            "threads": setting.threads,
            "batch_sizes": setting.batch_sizes,
            "rounds": setting.rounds,
            "length": setting.length,
            "max_spread": setting.max_spread,
        }
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror}") from error
    return f"copy {folder} to the device; there: pip install numpy onnxruntime; python {folder.name}/{SCRIPT}"
