"""Why a step has to be done: what it depends on now, beside what an earlier result depended on, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from mcomp.fingerprint import canonical
from mcomp.recipe.places import KeyPath, dotted

LONGEST_VALUE = 60
DIGEST = re.compile(r"[0-9a-f]{64}")


class Absent:
    """Stands for a key that one of two mappings has and the other has not."""


ABSENT = Absent()


class Difference(NamedTuple):
    """One value that is not what it was, by its path in the JSON of a key."""

    path: KeyPath
    old: Any
    new: Any


def why(new: Mapping[str, Any], old: Mapping[str, Any], names: Mapping[str, str] | None = None) -> list[str]:
    """Return what has changed between two keys of a step, each in its JSON (`mcomp.step_key`).

    `names` gives the name of each step by its key ("step 2"), for changes that come from there. Empty if
    nothing changed.
    """
    said = (words(difference, names or {}) for difference in differences(old, new))
    return list(dict.fromkeys(said))


def differences(old: Any, new: Any, path: KeyPath = ()) -> Iterator[Difference]:
    """Yield every value that differs; two mappings of different `type` are one difference, at their types."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        kinds = old.get("type"), new.get("type")
        if kinds[0] != kinds[1]:
            yield Difference((*path, "type"), *kinds)
            return
        for name in {**old, **new}:
            yield from differences(old.get(name, ABSENT), new.get(name, ABSENT), (*path, name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, (*path, index))
    elif ABSENT in (old, new) or canonical(old) != canonical(new):
        yield Difference(path, old, new)


def words(difference: Difference, names: Mapping[str, str]) -> str:
    """Return one difference as a person would say it."""
    part = str(difference.path[0])
    if part == "source" and len(difference.path) > 1:
        return words(origin_part(difference), names)
    return WORDS.get(part, field)(difference, names)


def origin_part(difference: Difference) -> Difference:
    """Return a difference between two models that no step made, as if it stood in the key of the step."""
    path = difference.path[1:]
    return difference._replace(path=path if path[0] != "version" else ("model", *path))


def field(difference: Difference, names: Mapping[str, str]) -> str:
    """Return `data.image_size: 16 -> 20`; a model that came from another step is said to have changed."""
    path, old, new = difference
    if path[-1] == "version":
        return f"{dotted(path)}: {shown(old)} -> {shown(new)} (it gives other results now)"
    if is_digest(old) and is_digest(new):
        return f"{dotted(path)} changed{seen_in(new, names)}"
    return f"{dotted(path)}: {shown(old)} -> {shown(new)}"


def stage_field(difference: Difference, names: Mapping[str, str]) -> str:
    """Return a field of the stage by the name it has under the stage: `target.macs: 0.5 -> 0.4`."""
    is_version = difference.path[1:] == ("version",)
    return field(difference if is_version else difference._replace(path=difference.path[1:]), names)


def input_changed(difference: Difference, names: Mapping[str, str]) -> str:
    """Return that the model a step starts from is another one."""
    if is_digest(difference.old) and is_digest(difference.new):
        return f"its input changed{seen_in(difference.new, names)}"
    return f"it starts from another model{seen_in(difference.new, names)}"


def data_field(difference: Difference, names: Mapping[str, str]) -> str:
    """Return a field of the data, or that its samples are others."""
    content = difference.path[1:] == ("content",)
    return "the content of the data changed" if content else field(difference, names)


def first_weights(difference: Difference, names: Mapping[str, str]) -> str:
    """Return what changed about the weights that a pipeline starts with: a seed, or the bytes of a file."""
    if isinstance(difference.old, int) and isinstance(difference.new, int):
        return field(difference._replace(path=("seed",)), names)
    same_kind = isinstance(difference.old, str) and isinstance(difference.new, str)
    return "the bytes of the checkpoint changed" if same_kind else "the weights it starts from are others"


def library(difference: Difference, names: Mapping[str, str]) -> str:
    """Return `torch 2.12.0 -> 2.13.0`."""
    return f"{dotted(difference.path[1:])} {shown(difference.old)} -> {shown(difference.new)}"


def source_code(difference: Difference, names: Mapping[str, str]) -> str:
    """Return whose code is another."""
    return f"the sources of {dotted(difference.path[1:])} changed"


def key_format(difference: Difference, names: Mapping[str, str]) -> str:
    """Return that results are named in another way."""
    return "this version of mcomp names its results in another way"


def target_model(difference: Difference, names: Mapping[str, str]) -> str:
    """Return that the targets are the outputs of another model."""
    return f"the model whose outputs are the targets changed{seen_in(difference.new, names)}"


WORDS: dict[str, Callable[[Difference, Mapping[str, str]], str]] = {
    "format": key_format,
    "stage": stage_field,
    "source": input_changed,
    "weights": first_weights,
    "data": data_field,
    "target": target_model,
    "libraries": library,
    "makers": library,
    "sources": source_code,
}


def seen_in(key: Any, names: Mapping[str, str]) -> str:
    """Return where a change can be looked up, if that is known."""
    return f" (see {names[key]})" if isinstance(key, str) and key in names else ""


def is_digest(value: Any) -> bool:
    """Whether a value is 64 hex digits."""
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def shown(value: Any) -> str:
    """Return a value as one would write it in a recipe, digests and long values cut."""
    if isinstance(value, Absent) or value is None:
        return "not set"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = DIGEST.sub(lambda digest: digest[0][:12], text)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
