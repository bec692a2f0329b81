"""Every export of every recipe, served in a fresh environment that holds its runtime and no mcomp.

    python tests/benchmarks/fresh_environments.py --folder DIR

Runs each recipe of recipes/ that exports, with `--quick`: how good a model is plays no part here. `mcomp
serve` writes the folder of each of its files. In a virtual environment with nothing but the runtime, numpy,
and what reads an image or a text, `predict.py` of that folder answers real samples; the answers must be those
of `mcomp predict`. What `mcomp bench --portable` writes of an ONNX file is run there too. A packed
.safetensors file is read by a copy of `mcomp/model/unpack.py` with numpy alone, which must give every weight
of the model.

Environments and results are kept in the folder: a run that was interrupted goes on with the next recipe, and
one that failed is tried again. Some recipes need inputs that `recipes/make_*.py` make.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.bench.judge import read_figures
from mcomp.cli.options import planned
from mcomp.errors import McompError
from mcomp.model.one_file import read_one_file
from mcomp.serve.answer import answer

RECIPES = Path(__file__).parents[2] / "recipes"
UNPACK = RECIPES.parent / "mcomp" / "model" / "unpack.py"
READ_INPUTS = ("pillow", "tokenizers")
PACKAGES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime", "numpy", *READ_INPUTS),
    "openvino": ("openvino", "numpy", *READ_INPUTS),
    "torch": ("torch", "numpy", *READ_INPUTS),
    "executorch": ("executorch", "torch", "numpy", *READ_INPUTS),
    "safetensors": ("numpy",),
}
FOREIGN = ("mcomp", "mcomp_stages", "torch")
SAMPLES = 3
TOLERATED = 1e-5  # of an answer: the same runtime on the same machine
PATIENCE_SECONDS = 1800

# In the fresh environment: a digest of each weight, by name.
DIGESTS = """
import hashlib, json, runpy, sys
read = runpy.run_path(sys.argv[1])["read_weights"](sys.argv[2])
print(json.dumps({name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in read.items()}))
"""


def environment(folder: Path, runtime: str) -> Path:
    """Return the interpreter of a runtime's environment, made now or earlier. Raises RuntimeError if it holds
    what it should not.
    """
    where = folder / "env" / runtime
    python = where / "bin" / "python"
    if not (where / "ok").exists():
        shutil.rmtree(where, ignore_errors=True)
        venv.create(where, with_pip=True)
        # The release, not the build of it: who reads this has another index.
        wanted = [f"{name}=={version(name).partition('+')[0]}" for name in PACKAGES[runtime]]
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
        (where / "ok").touch()
    foreign = tuple(name for name in FOREIGN if name not in PACKAGES[runtime])
    code = f"import importlib.util as u; print(*(n for n in {foreign} if u.find_spec(n)))"
    found = alone(python, folder, "-c", code).strip()
    if found:
        raise RuntimeError(f"the environment for {runtime} holds {found}")
    return python


def alone(python: Path, cwd: Path, *arguments: str) -> str:
    """Return what an interpreter prints that heeds no variables of Python's. Raises RuntimeError."""
    command = [str(python), "-I", *arguments]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
    return done.stdout


def mcomp(*arguments: str | Path) -> None:
    """Run a command of mcomp. Raises RuntimeError with its last words if it fails."""
    command = [sys.executable, "-m", "mcomp", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"mcomp {arguments[0]}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")


def exports_of(recipe: Path) -> tuple[list[tuple[str, str]], Any]:
    """Return the stages of a recipe that export, with their runtimes, and its data."""
    plan = planned(recipe, (), quick=True)
    return [(name, str(step.config.exports)) for name, step in plan.exports()], plan.recipe.data


def questions(served: Path, data: Any) -> Iterator[str]:
    """Yield real samples as who serves the model has them: an image file, a text, or arrays."""
    settings = json.loads((served / "preprocessing.json").read_text())
    split = data.load().split("test")
    for place in range(min(SAMPLES, len(split))):
        inputs = split.batch(torch.tensor([place])).inputs
        yield QUESTIONS[settings["kind"]](served, settings, inputs, place)


def as_image(
    served: Path, settings: Mapping[str, Any], inputs: Mapping[str, torch.Tensor], place: int
) -> str:
    """Write an input as the image file that it came from, and return its path."""
    mean, deviation = (torch.tensor(settings[name]).view(-1, 1, 1) for name in ("mean", "std"))
    pixels = (inputs[settings["name"]][0] * deviation + mean).mul(255).round().clamp(0, 255).byte()
    path = served / f"sample{place}.png"
    Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).save(path)
    return str(path)


def as_text(served: Path, settings: Mapping[str, Any], inputs: Mapping[str, torch.Tensor], place: int) -> str:
    """Return the text of an input's tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(served / "tokenizer.json"))
    text: str = tokenizer.decode(inputs["input_ids"][0].tolist(), skip_special_tokens=True)
    return text


def as_arrays(
    served: Path, settings: Mapping[str, Any], inputs: Mapping[str, torch.Tensor], place: int
) -> str:
    """Write the arrays of an input, before they are scaled, and return the path."""
    scales = {name: told["scale"] or 1 for name, told in settings["inputs"].items()}
    path = served / f"sample{place}.npz"
    np.savez(path, **{name: value[0].numpy() * scales[name] for name, value in inputs.items()})
    return str(path)


QUESTIONS = {"image": as_image, "text": as_text, "array": as_arrays}


def difference(left: Any, right: Any) -> float:
    """Return how far two answers are apart. Raises RuntimeError if they say something else."""
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        return max((difference(left[key], right[key]) for key in left), default=0.0)
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return max(map(difference, left, right), default=0.0)
    if isinstance(left, float) and isinstance(right, float):
        return abs(left - right)
    if left == right:
        return 0.0
    raise RuntimeError(f"it answers {right}, and mcomp predict {left}")


def answered(served: Path, python: Path, data: Any) -> dict[str, Any]:
    """Return how a served folder answers without mcomp. Raises RuntimeError if otherwise than with it."""
    apart = []
    for said in questions(served, data):
        here = answer(served, said)
        there = json.loads(alone(python, served, "predict.py", said))
        apart.append(difference(json.loads(json.dumps(here)), there))
    if max(apart) > TOLERATED:
        raise RuntimeError(f"answers differ by {max(apart):g} from those of mcomp predict")
    return {"answers": len(apart), "largest difference": max(apart)}


def timed(file: Path, python: Path, scratch: Path) -> dict[str, Any]:
    """Run what `mcomp bench --portable` writes of an ONNX file, and return the median of a call."""
    shutil.rmtree(scratch, ignore_errors=True)
    mcomp("bench", file, "--portable", scratch, "--rounds", "3", "--max-spread", "1e9", "--length", "16")
    alone(python, scratch, "bench.py")
    (timing,) = read_figures(scratch / "figures.json").timings
    return {"bench ms": round(timing.latency.median_ms, 3)}


def unpacked(file: Path, python: Path, scratch: Path) -> dict[str, Any]:
    """Read a packed file with numpy alone. Raises RuntimeError unless it gives every weight exactly."""
    shutil.copyfile(UNPACK, scratch / "unpack.py")
    found = json.loads(alone(python, scratch, "-c", DIGESTS, str(scratch / "unpack.py"), str(file)))
    weights = read_one_file(file)[0].module.state_dict()
    expected = {
        name: hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        for name, value in weights.items()
    }
    other = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if other:
        raise RuntimeError(f"{len(other)} weights differ, as {other[0]}")
    return {"weights": len(expected)}


def served_alone(recipe: Path, stage: str, runtime: str, data: Any, folder: Path) -> dict[str, Any]:
    """Return what a file gave in an environment of its runtime."""
    served, started = folder / "served" / f"{recipe.stem}-{stage}", time.perf_counter()
    shutil.rmtree(served, ignore_errors=True)
    mcomp("serve", recipe, served, "--of", stage, "--quick", "--store", folder / "store")
    python = environment(folder, runtime)
    file = served / json.loads((served / "preprocessing.json").read_text())["file"]
    found: dict[str, Any] = {"stage": stage, "runtime": runtime, "bytes": file.stat().st_size}
    if runtime == "safetensors":
        found |= unpacked(file, python, served)
    else:
        found |= answered(served, python, data)
    if runtime == "onnxruntime":
        found |= timed(file, python, folder / "portable")
    return found | {"seconds": round(time.perf_counter() - started)}


def tried(recipe: Path, folder: Path) -> dict[str, Any] | None:
    """Return what became of a recipe: its files, or its error; None if it exports nothing."""
    try:
        exports, data = exports_of(recipe)
        files = [served_alone(recipe, stage, runtime, data, folder) for stage, runtime in exports]
        return {"recipe": recipe.stem, "files": files} if files else None
    except (McompError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        return {"recipe": recipe.stem, "error": str(error)[-600:]}


def table(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| recipe | export | alone with | answers as mcomp's | largest difference | also |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for result in results:
        if "error" in result:
            yield f"| {result['recipe']} | failed: {' '.join(result['error'].split())} | | | | |"
        for file in result.get("files", ()):
            also = f"bench.py: {file['bench ms']} ms" if "bench ms" in file else ""
            also = f"{file['weights']} weights, equal" if "weights" in file else also
            answers, apart = file.get("answers", "–"), file.get("largest difference", "–")
            cells = (result["recipe"], file["stage"], file["runtime"], answers, apart, also)
            yield f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    """Try what is left, and print the table; 1 if something failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--recipes", nargs="*", default=[], help="names; default: all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start none after so many")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    kept, started = folder / "results.jsonl", time.perf_counter()
    lines = kept.read_text().splitlines() if kept.exists() else []
    known = {result["recipe"]: result for result in map(json.loads, lines)}
    for recipe in sorted(RECIPES.glob("*.yaml")):
        done = recipe.stem in known and "error" not in known[recipe.stem]
        left_out = asked.recipes and recipe.stem not in asked.recipes
        if done or left_out or time.perf_counter() - started > asked.seconds:
            continue
        result = tried(recipe, folder)
        if result is not None:
            known[recipe.stem] = result
            with kept.open("a") as results:
                results.write(json.dumps(result) + "\n")
            print(json.dumps(result), flush=True)
    print("\n".join(table([known[name] for name in sorted(known)])))
    return any("error" in result for result in known.values())


if __name__ == "__main__":
    sys.exit(main())
