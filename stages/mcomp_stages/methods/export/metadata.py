"""What a file says of itself: what it was made of, and what whoever serves it must do with its inputs."""

from __future__ import annotations

from typing import Any

from mcomp.fingerprint import canonical
from mcomp.stage import Context

COUNTED = "samples"  # how many there were to learn from: nothing that serving needs


def metadata(context: Context) -> dict[str, str]:
    """Return `mcomp.key`, `mcomp.recipe`, `mcomp.preprocessing` and `mcomp.labels`: JSON, but for the key.

    `mcomp.recipe` is what the key depends on: the stage, the data, the task, the seed, the versions of what
    made the bytes, and the key of the model before. It holds no path and no name of a file.
    """
    preprocessing = {name: value for name, value in context.data.facts.items() if name != COUNTED}
    labels = preprocessing.pop("classes", None)
    found: dict[str, Any] = {
        "mcomp.recipe": context.made_of,
        "mcomp.preprocessing": preprocessing,
        "mcomp.labels": labels,
    }
    told = {name: canonical(value).decode() for name, value in found.items() if value}
    return {"mcomp.key": context.key, **told} if context.key else told
