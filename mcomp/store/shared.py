"""What follows from one model and the data, kept as a result that several steps use.

No record of a run refers to it: `clean` takes it away, and it is computed again when it is missed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mcomp.errors import CorruptArtifact
from mcomp.fingerprint import canonical, fingerprint
from mcomp.recipe.schema import RecipeRef
from mcomp.stage import Checkpoint, Reporter
from mcomp.store.artifact import Artifact
from mcomp.store.checkpoints import plain
from mcomp.store.store import Store

TENSORS, NUMBERS = "shared/tensors.safetensors", "shared/numbers.json"


@dataclass(frozen=True)
class SharedResults:
    """Results for the models that a step refers to, by their keys.

    `depends_on` is what each of them depends on beside the model: data, code, and the environment, because
    other machines and numbers of threads give other bytes.
    """

    store: Store
    step: str
    keys: Mapping[RecipeRef, str]
    depends_on: Mapping[str, Any]
    reporter: Reporter

    def get(self, what: Mapping[str, Any], of: RecipeRef, compute: Callable[[], Checkpoint]) -> Checkpoint:
        """Return what the store has, or compute it and keep it."""
        key_json = {"shared": dict(what), "model": self.keys[of], **self.depends_on}
        key = fingerprint(key_json)
        known = self.known(key, key_json)
        if known is None:
            with self.store.lease(key, on_wait=self.reporter.log):
                known = self.known(key, key_json)  # somebody else may have finished it while we waited
                if known is None:
                    known = compute()
                    self.keep(key, key_json, known)
        return known

    def known(self, key: str, key_json: Any) -> Checkpoint | None:
        """Return a result that is whole, or None; a broken one is set aside."""
        artifact = self.store.find(key, key_json)
        if artifact is None:
            return None
        try:
            return read(artifact)
        except CorruptArtifact:
            return None

    def keep(self, key: str, key_json: Any, result: Checkpoint) -> None:
        """Publish a result."""
        with self.store.workspace(key) as work:
            content = work / "content"
            write(content, result)
            self.store.publish(key, key_json, content, {"step": f"shared, first used by {self.step}"})


def write(folder: Path, result: Checkpoint) -> None:
    """Lay out a result in a folder, which is made."""
    (folder / TENSORS).parent.mkdir(parents=True)
    save_file({name: plain(tensor) for name, tensor in result.tensors.items()}, folder / TENSORS)
    (folder / NUMBERS).write_bytes(canonical(dict(result.numbers)))


def read(artifact: Artifact) -> Checkpoint:
    """Return a result whose bytes are those that were published. Raises CorruptArtifact."""
    tensors, numbers = artifact.file(TENSORS), artifact.file(NUMBERS)
    try:
        return Checkpoint(load_file(tensors), json.loads(numbers.read_bytes()))
    except (SafetensorError, ValueError) as error:
        artifact.on_corrupt("it is none of this version")
        raise CorruptArtifact(f"{artifact.folder} is none of this version; it was set aside") from error
