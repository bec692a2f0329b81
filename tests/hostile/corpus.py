"""All attacks by kind and name, the files that none of them may touch, and what is done before them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.hostile import headers, pickles, recipes, saved_models
from tests.hostile.attack import files, named

ATTACKS = {
    **named("recipes", recipes.ATTACKS),
    **named("pickles", pickles.ATTACKS),
    **named("headers", headers.ATTACKS),
    **named("saved models", saved_models.ATTACKS),
}

# Good files, so that whatever opens one would also read it.
OUTSIDE = files(
    {
        "secret.bin": bytes(64),
        "secret.pt": pickles.archive(pickles.state_dict()),
        "secret.safetensors": headers.encoded(json.dumps(headers.GOOD).encode()),
    }
)


def warm_up(folder: Path) -> None:
    """Do once what is right, so that an attack is not charged for imports."""
    (folder / "w.pt").write_bytes(pickles.archive(pickles.state_dict()))
    pickles.load(folder)
    (folder / "w.safetensors").write_bytes(headers.encoded(json.dumps(headers.GOOD).encode()))
    headers.load(folder)
    saved_models.save(folder / "model")
    saved_models.load(folder / "model")
    saved_models.start(folder / "model")
