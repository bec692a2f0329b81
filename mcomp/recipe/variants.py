"""One recipe under many overrides, as a sweep needs it: Hydra composes once for each choice of files.

Values cannot change which files a recipe is made of. So they are set on a copy of what Hydra composed, with
the call by which Hydra sets them; composing 256 jobs one by one takes half a minute.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import OmegaConf

from mcomp.data.contract import DataConfig
from mcomp.errors import RecipeError
from mcomp.recipe.build import LoadedRecipe, build
from mcomp.recipe.compose import (
    COMPOSITION_ERRORS,
    Composed,
    Reading,
    compose,
    config_by_hydra,
    plain_data,
)
from mcomp.recipe.overrides import parse, refuse_sweeps
from mcomp.recipe.references import resolve

SETS_A_VALUE = (OverrideType.CHANGE, OverrideType.FORCE_ADD)


@dataclass
class Variants:
    """The compositions of one recipe."""

    path: Path
    parsed: dict[str, Override] = field(default_factory=dict)
    bases: dict[tuple[str, ...], tuple[Reading, bytes]] = field(default_factory=dict)

    def compose(self, overrides: Sequence[str]) -> Composed:
        """Return what `mcomp.recipe.compose.compose` returns. Raises RecipeError."""
        parsed = self.parse(overrides)
        refuse_sweeps(parsed)
        structure, values = self.split(parsed)
        try:
            reading, base = self.base(structure)
            config = pickle.loads(base)
            for override in values:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True, force_add=True)
        except (*COMPOSITION_ERRORS, RecipeError):
            return compose(self.path, overrides)  # it fails too, and says which override is to blame
        places = reading.places(parsed)
        return Composed(self.path, resolve(plain_data(config), places), places, tuple(overrides))

    def split(self, overrides: Sequence[Override]) -> tuple[list[Override], list[Override]]:
        """Return the overrides that only Hydra can apply, and the values that are set after them.

        Files are chosen before any value is set. Additions and deletions depend on what is there, so what
        stands before the last of them is Hydra's too.
        """
        reading = Reading(self.path)
        chosen = [override for override in overrides if reading.chooses_file(override)]
        rest = [override for override in overrides if override not in chosen]
        last = max((n for n, each in enumerate(rest, start=1) if each.type not in SETS_A_VALUE), default=0)
        return [*chosen, *rest[:last]], rest[last:]

    def parse(self, texts: Sequence[str]) -> list[Override]:
        """Return the overrides, each text parsed once: the jobs of a sweep share most of them."""
        new = [text for text in texts if text not in self.parsed]
        self.parsed |= zip(new, parse(new), strict=True)
        return [self.parsed[text] for text in texts]

    def base(self, overrides: Sequence[Override]) -> tuple[Reading, bytes]:
        """Return the files that a composition is made of, and what Hydra makes of them; composed once.

        It is kept as pickled by us in this process: OmegaConf's own deep copy takes nine times as long.
        """
        reading = Reading(self.path)
        lines = tuple(reading.line(override) for override in overrides)
        if lines not in self.bases:
            reading.check_files(overrides)
            self.bases[lines] = (reading, pickle.dumps(config_by_hydra(reading, lines)))
        return self.bases[lines]


@dataclass
class Recipes:
    """Recipes by path and overrides, each read and validated once, and the digests of their data."""

    variants: dict[Path, Variants] = field(default_factory=dict)
    known: dict[tuple[Path, tuple[str, ...]], LoadedRecipe | RecipeError] = field(default_factory=dict)
    digests: list[tuple[DataConfig, str]] = field(default_factory=list)

    def load(self, path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
        """Return what `mcomp.recipe.build.load_recipe` returns. Raises RecipeError and PluginError."""
        path = Path(os.path.normpath(path))
        key = (path, tuple(overrides))
        if key not in self.known:
            try:
                composed = self.variants.setdefault(path, Variants(path)).compose(overrides)
                self.known[key] = LoadedRecipe(build(composed), composed, path)
            except RecipeError as error:
                self.known[key] = error
        found = self.known[key]
        if isinstance(found, RecipeError):
            raise found
        return found

    def digest(self, data: DataConfig) -> str:
        """Return the digest of a data set; files are looked at once for all recipes that use it alike."""
        found = next((digest for known, digest in self.digests if known == data), None)
        if found is None:
            found = data.digest()
            self.digests.append((data, found))
        return found
