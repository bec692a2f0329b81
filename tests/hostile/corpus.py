"""All attacks by kind and name, the files that none of them may touch, and what is done before them."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

import plotly.offline

from mcomp.errors import CheckpointError, StageError
from tests.hostile import (
    arrays,
    headers,
    hub_folders,
    images,
    onnx_files,
    own_plugins,
    pickles,
    programs,
    recipes,
    reports,
    saved_models,
    sentences,
    states,
    stores,
)
from tests.hostile.attack import command, files, named
from tests.mcomp.report import ledgers
from tests.mcomp.store.example import RUN, SWEEP

SECRET = "hunter2"  # in the environment; no one may tell it

ATTACKS = {
    **named("recipes", recipes.ATTACKS),
    **named("pickles", pickles.ATTACKS),
    **named("programs", programs.ATTACKS),
    **named("headers", headers.ATTACKS),
    **named("saved models", saved_models.ATTACKS),
    **named("hub folders", hub_folders.ATTACKS),
    **named("stores", stores.ATTACKS),
    **named("states", states.ATTACKS),
    **named("ONNX files", onnx_files.ATTACKS),
    **named("arrays", arrays.ATTACKS),
    **named("images", images.ATTACKS),
    **named("sentences", sentences.ATTACKS),
    **named("plugins", own_plugins.ATTACKS),
    **named("reports", reports.ATTACKS),
}

# Good files, so that whatever opens one would also read it.
OUTSIDE = files(
    {
        "secret.bin": bytes(64),
        "secret.pt": pickles.archive(pickles.state_dict()),
        "secret.yaml": recipes.GOOD,
        "secret.npy": arrays.GOOD,
        "secret.png": images.png(),
        f"shard/{'0' * 64}/secret.bin": bytes(64),
        "secret.safetensors": headers.encoded(json.dumps(headers.GOOD).encode()),
    }
)


def warm_up(folder: Path) -> None:
    """Do once what is right, so that an attack is not charged for imports."""
    (folder / "w.pt").write_bytes(pickles.archive(pickles.state_dict()))
    pickles.load(folder)
    (folder / "w.safetensors").write_bytes(headers.encoded(json.dumps(headers.GOOD).encode()))
    headers.load(folder)
    (folder / "m.pt2").write_bytes(programs.packed())
    programs.start(folder)
    saved_models.save(folder / "model")
    saved_models.load(folder / "model")
    saved_models.start(folder / "model")
    hub_folders.save(folder)
    hub_folders.plan(folder)
    with suppress(CheckpointError):  # it has no weights
        hub_folders.build(folder)
    stores.store_with(stores.ledger())(folder)
    for act in (stores.use, stores.publish, stores.measure, stores.begin, stores.resume):
        act(folder)
    for line in ("verify", f"explain {RUN}", f"report {SWEEP}", "runs", "clean"):
        command(*line.split(), "--store", "store")(folder)
    shutil.rmtree(folder / "store")
    files({"files/model.onnx": onnx_files.model()})(folder)
    onnx_files.run(folder)
    onnx_files.count(folder)
    onnx_files.compare(folder)
    files({"data/image.npy": arrays.GOOD, "data/target.npy": arrays.LABELS})(folder)
    arrays.look(folder)
    shutil.rmtree(folder / "data")
    files(sentences.GOOD)(folder)
    sentences.plan(folder)
    sentences.load(folder)
    stores.store_with(lambda root: None)(folder)
    with suppress(StageError):  # it is no state of a training
        states.train(folder)
    shutil.rmtree(folder / "store")
    images.laid(lambda folder: None, "", "own").prepare(folder)
    images.plan(folder)
    images.load(folder)
    plotly.offline.get_plotlyjs = lambda: "var Plotly = {};"  # the bundle is 5 MB that nobody reads here
    reports.store_of(ledgers.main_job())(folder)
    reports.sweep_of(ledgers.main_job())(folder)
    reports.show(folder)
    reports.compare(folder)
