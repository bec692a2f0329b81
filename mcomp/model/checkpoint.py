"""A model on disk: `model.json` (how it was built and changed) and `weights.safetensors`. No pickle.

Loading builds the architecture, replays the edits in order and fills the tensors. Equal models give equal
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import torch
from pydantic import BaseModel, Field, ValidationError
from safetensors.torch import save
from torch import Tensor, nn

from mcomp import plainfile, plugins
from mcomp.config import Config
from mcomp.errors import CheckpointError, PluginError, Problem, RecipeError, named
from mcomp.fingerprint import canonical
from mcomp.model.edits import Edit, State
from mcomp.model.fit import both_real, fill, require_fit, same_dtype, tensors_of
from mcomp.model.model import Model
from mcomp.model.sparse import with_zeros, without_zeros
from mcomp.model.spec import ModelConfig
from mcomp.model.weights import read_tensors, without_wrappers

MODEL, WEIGHTS = "model.json", "weights.safetensors"
STATE_PREFIX = "state:"  # no parameter has a colon in its name
MODEL_LIMIT_BYTES = 64 * 2**20  # kept indices of a wide model are many numbers
SHOWN = 8

Part = TypeVar("Part", bound=BaseModel)


# What stands here is told to the person as part of a command: it must be nothing else.
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", max_length=200)]


class SavedSpec(Config):
    """The architecture by name, the version that was built, and its arguments."""

    type: str
    version: str
    arguments: dict[str, Any]


class SavedModel(Config):
    """The content of `model.json`.

    `tied`: names whose tensor is stored under another name. `import`: the modules of the
    architecture and the edits that are no entry points; they are named to the person, never imported.
    """

    format: Literal[1] = 1
    spec: SavedSpec
    edits: tuple[dict[str, Any], ...] = ()
    tied: dict[str, str] = {}
    imported: tuple[ModuleName, ...] = Field(default=(), alias="import")

    def as_json(self) -> bytes:
        """Return it as canonical JSON."""
        return canonical(self.model_dump(mode="json", by_alias=True))


def save_model(model: Model, folder: Path) -> None:
    """Write a model into `folder`, which is made if it is missing."""
    saved, tensors = parts(model)
    folder.mkdir(parents=True, exist_ok=True)
    # Without metadata: two or more keys of it come out in another order in each process (safetensors#584).
    (folder / WEIGHTS).write_bytes(save(tensors))
    (folder / MODEL).write_bytes(saved.as_json() + b"\n")


def parts(model: Model) -> tuple[SavedModel, dict[str, Tensor]]:
    """Return what is kept of a model: how it was built and changed, and its tensors by name."""
    arguments = model.spec.spec()
    kind = arguments.pop("type")
    module_tensors, tied = untied(model.module.state_dict())
    for edit in model.edits:
        for name, value in edit.values(model.state).items():
            if not torch.equal(module_tensors.pop(name), value):
                raise ValueError(f"{name} was changed after {edit.kind}, which says what it is")
    module_tensors, state = without_zeros(module_tensors, model.state)
    state = {STATE_PREFIX + name: tensor for name, tensor in state.items()}
    saved = SavedModel(
        spec=SavedSpec(type=kind, version=model.spec.version, arguments=arguments),
        edits=tuple(edit.model_dump(mode="json") for edit in model.edits),
        tied=tied,
        **{"import": own_modules(model)},
    )
    return saved, {name: stored_copy(tensor) for name, tensor in {**module_tensors, **state}.items()}


def own_modules(model: Model) -> tuple[str, ...]:
    """Return the modules of the model's architecture and edits that no installed distribution announces."""
    own = {type(edit).__module__ for edit in model.edits if edit.kind not in plugins.installed("edits")}
    if model.spec.type not in plugins.installed("models"):
        own.add(type(model.spec).__module__)
    return tuple(sorted(own))


def stored_copy(tensor: Tensor) -> Tensor:
    """Return a copy that owns its memory: contiguous, on the CPU."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def untied(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return each tensor once, and for the names left out the name under which theirs is."""
    first: dict[Any, str] = {}
    tied = {}
    for name, tensor in tensors.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) if tensor.numel() else name
        if first.setdefault(place, name) != name:
            tied[name] = first[place]
    return {name: tensor for name, tensor in tensors.items() if name not in tied}, tied


def load_model(folder: Path) -> Model:
    """Return the model that `save_model` wrote; torch's random state is left as it was.

    Raises CheckpointError if a file is broken, or an architecture or edit is not installed as it was.
    """
    return rebuilt(read_saved(folder), partial(read_tensors, folder / WEIGHTS), folder)


def rebuilt(saved: SavedModel, read: Callable[[], dict[str, Tensor]], folder: Path) -> Model:
    """Return the model of what `parts` gave; `folder` is where it lies. Raises as `load_model`."""
    spec = saved_spec(saved, folder)
    edits = tuple(saved_edit(edit, saved, folder) for edit in saved.edits)
    with torch.random.fork_rng(devices=[]):
        # Any fixed start: every number is overwritten. Not torch.manual_seed, which reseeds the GPUs too.
        torch.default_generator.manual_seed(0)
        module = built(spec, folder)
        state = replayed(edits, module, folder)
    tensors, kept_state = split_tensors(read(), state, folder)
    require_fit(
        state, {name: kept_state[name] for name in state if name in kept_state}, str(folder), same_dtype
    )
    for edit in edits:
        tensors |= edit.values(kept_state)
    fill(module, with_tied(tensors, saved), str(folder), same_dtype)
    return Model(module, spec, edits, {**state, **kept_state})


def read_saved(folder: Path) -> SavedModel:
    """Return the content of `model.json`."""
    path = folder / MODEL
    try:
        return SavedModel.model_validate(json.loads(plainfile.read(path, MODEL_LIMIT_BYTES)))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (ValidationError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is broken, or was written by another version of mcomp") from error


def saved_spec(saved: SavedModel, folder: Path) -> ModelConfig:
    """Return the architecture's configuration."""
    kind = cast(type[ModelConfig], plugin("models", saved.spec.type, saved, folder))
    if kind.version != saved.spec.version:
        raise CheckpointError(
            f"{folder} was built by version {named(saved.spec.version)} of {saved.spec.type}; "
            f"version {kind.version} is installed, which builds other models"
        )
    plain = {"type": saved.spec.type, **saved.spec.arguments}
    return validated(kind, plain, f"{folder / MODEL}: {saved.spec.type} refuses its arguments")


def built(spec: ModelConfig, folder: Path) -> nn.Module:
    """Return the architecture with any weights. Raises CheckpointError if its arguments leave it open."""
    try:
        return spec.build()
    except RecipeError as error:
        raise CheckpointError(f"{folder} cannot be rebuilt: {error}") from error


def saved_edit(edit: dict[str, Any], saved: SavedModel, folder: Path) -> Edit:
    """Return one edit."""
    kind = cast(type[Edit], plugin("edits", str(edit.get("kind")), saved, folder))
    return validated(kind, edit, f"{folder / MODEL}: edit {edit.get('kind')} is broken")


def validated(kind: type[Part], plain: Any, what: str) -> Part:
    """Return a part of `model.json`. Raises CheckpointError with the fields that are wrong."""
    try:
        return kind.model_validate(plain)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[:SHOWN]
        lines = [f"  {named('.'.join(map(str, each['loc'])))}: {named(each['msg'])}" for each in wrong]
        raise CheckpointError(Problem("", "", what, more=tuple(lines))) from error


def plugin(group: plugins.Group, name: str, saved: SavedModel, folder: Path) -> type:
    """Return the class behind a name. Raises PluginError with what the person can do if there is none."""
    try:
        return plugins.load(group, name)
    except PluginError as error:
        flags = "".join(f"; add --import {module} if you trust it" for module in saved.imported)
        raise PluginError(f"{folder} cannot be loaded: {error}{flags}") from error


def replayed(edits: tuple[Edit, ...], module: nn.Module, folder: Path) -> State:
    """Apply the edits to a freshly built module, in place, and return their own tensors."""
    state: State = {}
    for number, edit in enumerate(edits, start=1):
        try:
            edit.apply(module, state)
        except (ValueError, AttributeError) as error:
            what = f"{folder}: edit {number} ({edit.kind}) does not fit: {named(str(error))}"
            raise CheckpointError(what) from error
    return state


def split_tensors(
    stored: Mapping[str, Tensor], replayed: State, folder: Path
) -> tuple[dict[str, Tensor], State]:
    """Return the module's tensors by name, and the edits' tensors, masks as those of the replayed edits."""
    whole, masks = with_zeros(stored, replayed, str(folder))
    state = masks | {
        name.removeprefix(STATE_PREFIX): tensor
        for name, tensor in whole.items()
        if name.startswith(STATE_PREFIX)
    }
    return {name: tensor for name, tensor in whole.items() if not name.startswith(STATE_PREFIX)}, state


def with_tied(tensors: Mapping[str, Tensor], saved: SavedModel) -> dict[str, Tensor]:
    """Return the tensors with tied ones under each of their names."""
    tied = {name: tensors[source] for name, source in saved.tied.items() if source in tensors}
    return {**tensors, **tied}


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill `module`, in place, from a checkpoint of somebody else, or from a folder that `save_model` wrote.

    Known: .safetensors, and .pt or .pth with a state dict at the top or below `state_dict`, `model` and the
    like; wrappers' prefixes (`module.`) are dropped. Raises CheckpointError if the file is missing, truncated
    or unsafe, does not fit, or holds numbers that are not finite; the module is left as it was.
    """
    tensors = folder_tensors(path) if path.is_dir() else read_tensors(path)
    fill(module, without_wrappers(tensors, tensors_of(module)), str(path), both_real)


def folder_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a saved model that was not changed since it was built."""
    saved = read_saved(folder)
    if saved.edits:
        kinds = ", ".join(named(str(edit.get("kind"))) for edit in saved.edits[:SHOWN])
        raise CheckpointError(
            f"{folder} was changed since it was built ({kinds}), which weights alone do not carry; "
            "start from its recipe: {recipe: ...}"
        )
    tensors, _ = split_tensors(read_tensors(folder / WEIGHTS), {}, folder)
    return with_tied(tensors, saved)
