"""Which file each value of a composed recipe comes from: a composition of marks in place of the values.

The order of the files, the keys under which they are laid and what replaces what are Hydra's matter. So the
same composition is done once more, every value replaced by a mark that says where it stands in which file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcomp.recipe.load import Source
from mcomp.recipe.places import KeyPath, Place

# The mark of a mapping, as one more key in it. No recipe can hold it: its like is refused.
OF_MAPPING = "__mark__"


@dataclass
class Marks:
    """The marks that were given out: for each the file it stands in, and the path there."""

    given: list[tuple[Source, KeyPath]] = field(default_factory=list)

    def marked(self, source: Source) -> dict[str, Any]:
        """Return a file's data with marks for values; its defaults list stays."""
        marked = self.mark(source, source.data, ())
        return {**marked, **{key: source.data[key] for key in ("defaults",) if key in source.data}}

    def mark(self, source: Source, value: Any, path: KeyPath) -> Any:
        """Return `value` with marks. A list that holds something is known by what it holds."""
        if isinstance(value, list) and value:
            return [self.mark(source, item, (*path, index)) for index, item in enumerate(value)]
        self.given.append((source, path))
        number = str(len(self.given) - 1)
        if isinstance(value, dict):
            inside = {key: self.mark(source, item, (*path, key)) for key, item in value.items()}
            return {OF_MAPPING: number, **inside}
        return number

    def places(self, composed: Mapping[str, Any]) -> tuple[dict[KeyPath, Place], dict[KeyPath, Place]]:
        """Return the places of keys and of values in a recipe that was composed of marked files."""
        keys: dict[KeyPath, Place] = {}
        values: dict[KeyPath, Place] = {}
        self.read(composed, (), keys, values)
        return keys, values

    def read(
        self, value: Any, path: KeyPath, keys: dict[KeyPath, Place], values: dict[KeyPath, Place]
    ) -> tuple[Source, KeyPath] | None:
        """Note the places in `value`; return where it stands, or None if no file holds it."""
        found = None
        if isinstance(value, dict):
            found = self.given[int(value[OF_MAPPING])] if OF_MAPPING in value else None
            for key, item in value.items():
                if key != OF_MAPPING:
                    self.read(item, (*path, key), keys, values)
        elif isinstance(value, list):
            inside = [self.read(item, (*path, index), keys, values) for index, item in enumerate(value)]
            found = (inside[0][0], inside[0][1][:-1]) if inside and inside[0] else None
        else:
            found = self.given[int(value)]
        if found is not None:
            source, there = found
            values[path] = source.places.values[there]
            if there in source.places.keys:
                keys[path] = source.places.keys[there]
        return found
