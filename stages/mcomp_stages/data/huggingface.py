"""Data sets of Hugging Face's library datasets: from a local copy, or from the hub.

    data:
      type: huggingface
      path: reviews              # train.parquet, validation.parquet, test.parquet; or what save_to_disk wrote
      text: text                 # the column that the model reads
      label: label
      tokenizer: tokenizer

`path` names a folder or a file: Parquet, CSV or JSON lines, named after their splits (a single file is
train), or a folder of `save_to_disk`. `hub` names a data set on the hub, downloaded once; `subset` one of its
several. No script of a data set is ever run. A split that is not there takes its share of train.

Images (`image: COLUMN`) are read as `image_folder` reads them: upright, resized to `image_size`, normalised.
Texts (`text: COLUMN`) go through the tokenizer.json that `tokenizer` names, as in `sentences`. Labels are
classes by name or number; without `label` there are none, for `task: {type: fidelity}`. The licence is the
data set's own: its page on the hub says it, and `licence` puts it on the card of a served model.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from mcomp.config import no_effect
from mcomp.data.augment import Augment
from mcomp.data.contract import DataConfig, DataFacts, Serving, SplitName, VaryingSize
from mcomp.data.digests import content_digest
from mcomp.data.fractions import Fractions
from mcomp.fingerprint import fingerprint
from mcomp.recipe.files import NamedPath
from mcomp_stages.data.huggingface_tables import Labels, Rows, labels_of, open_tables, require_column, rows_of
from mcomp_stages.data.image_folder import Normalize
from mcomp_stages.data.tokenizer_file import library_version, pad_token, tokenizer_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcomp.data.contract import Split
    from mcomp.data.splits import Splits
    from mcomp_stages.data.huggingface_tables import Tables

INPUTS = ("input_ids", "attention_mask")


class HuggingFaceConfig(DataConfig):
    """Inputs `image`, or `input_ids` and `attention_mask`; targets are classes, or empty."""

    type: Literal["huggingface"] = "huggingface"
    path: NamedPath | None = no_effect(default=None, description="a folder or file, relative to the recipe")
    hub: str | None = no_effect(default=None, description="a name on the Hugging Face hub: owner/name")
    subset: Annotated[str | None, Field(description="which of several that the hub has under one name")] = (
        None
    )
    revision: str = no_effect(default="main", description="a branch, tag or commit on the hub")
    split_names: Annotated[
        dict[SplitName, str], Field(description="what splits are called there: {validation: dev}")
    ] = {}
    image: Annotated[str | None, Field(description="the column of images")] = None
    text: Annotated[str | None, Field(description="the column of texts")] = None
    label: Annotated[str | None, Field(description="the column of classes")] = None
    image_size: Annotated[int | None, Field(ge=4, le=2048, description="of images: pixels a side")] = None
    channels: Annotated[Literal[1, 3], Field(description="of images: 1: gray, 3: color")] = 3
    fit: Annotated[Literal["crop", "squash"], Field(description="of images, as in image_folder")] = "crop"
    normalize: Annotated[
        Normalize | None, Field(description="of images; default: as the training images are")
    ] = None
    augment: Augment = Augment()
    tokenizer: NamedPath | None = no_effect(
        default=None, description="of texts: tokenizer.json, or a folder that holds it"
    )
    max_length: Annotated[int, Field(ge=2, le=2**16, description="of texts: tokens at most")] = 128
    splits: Fractions = Fractions()
    calibration: Annotated[int, Field(ge=2, description="samples of train that quantizers are set by")] = 256

    @model_validator(mode="after")
    def says_what_is_read(self) -> HuggingFaceConfig:
        """Refuse what leaves open which data set, and which column, is meant."""
        if (self.path is None) == (self.hub is None):
            raise ValueError("needs one of path and hub")
        if (self.image is None) == (self.text is None):
            raise ValueError("needs one of image and text: the column that the model reads")
        if self.image is not None and self.image_size is None:
            raise ValueError("images need image_size")
        if self.text is not None and self.tokenizer is None:
            raise ValueError("texts need a tokenizer: the folder with the model's tokenizer.json")
        if self.normalize and {len(self.normalize.mean), len(self.normalize.std)} != {self.channels}:
            raise ValueError(f"normalize needs as many means and deviations as channels ({self.channels})")
        return self

    @cached_property
    def tables(self) -> Tables:
        """The rows of each split, on the disk. Raises RecipeError for what is missing or broken."""
        if self.path is not None:
            found = open_tables(self.path, self.split_names)
        else:
            from mcomp_stages.data.huggingface_hub import hub_tables

            assert self.hub is not None, "refused by says_what_is_read"
            found = hub_tables(self.hub, self.subset, self.revision, self.split_names)
        for split, table in found.items():
            for field in ("image", "text", "label"):
                if (column := getattr(self, field)) is not None:
                    require_column(table, column, split, field)
        return found

    @cached_property
    def rows(self) -> Mapping[SplitName, Rows]:
        """Which rows of which table each split has. Raises RecipeError if one gets too few."""
        return rows_of(self.tables, self.splits, self.calibration)

    @cached_property
    def labels(self) -> Labels | None:
        """The classes of all rows, if there are any. Raises RecipeError for what is no class."""
        return None if self.label is None else labels_of(self.tables, self.label)

    def facts(self) -> DataFacts:
        trained = self.rows["train"].rows
        classes, counts = None, None
        if self.labels is not None:
            classes = len(self.labels.classes)
            found = Counter(self.labels.numbers["train"][row] for row in trained)
            counts = tuple(found[number] for number in range(len(self.labels.classes)))
        if self.image is not None:
            labelled = self.label is not None
            return DataFacts(self.channels, self.image_size, classes, labelled=labelled, class_counts=counts)
        assert self.tokenizer is not None, "refused by says_what_is_read"
        pad_token(self.tokenizer, None)
        length = VaryingSize("sequence", self.max_length)
        varying = {name: {1: length} for name in INPUTS}
        return DataFacts(None, None, classes, varying, self.label is not None, counts)

    def serving(self, facts: Mapping[str, Any]) -> Serving | None:
        if self.image_size is not None and self.image is not None:
            return Serving.image(facts, self.image_size, self.channels, self.fit)
        assert self.tokenizer is not None, "refused by says_what_is_read"
        pad = pad_token(self.tokenizer, None)
        length = {"max_length": self.max_length, "padding": "longest"}
        settings = {"kind": "text", "inputs": list(INPUTS), "pad_token": pad, **length}
        return Serving(settings, {"tokenizer.json": tokenizer_file(self.tokenizer)})

    @cached_property
    def content(self) -> str:
        """What `digest` returns: every step of a plan asks for it."""
        parts = {
            split: [content_digest(file) for file in table.files] for split, table in self.tables.items()
        }
        if self.tokenizer is None:
            return fingerprint({"tables": parts, "pillow": version("pillow")})
        tokens = [content_digest(tokenizer_file(self.tokenizer)), pad_token(self.tokenizer, None)]
        return fingerprint({"tables": parts, "tokenizer": [*tokens, library_version()]})

    def digest(self) -> str:
        return self.content

    def load(self) -> Splits:
        """Load the splits. Raises RecipeError for an image, text or tokenizer that is broken."""
        from mcomp.data.splits import Splits
        from mcomp_stages.data.huggingface_splits import Look, image_splits, text_splits

        facts: dict[str, Any] = {}
        splits: Mapping[SplitName, Split]
        if self.image is not None and self.image_size is not None:
            used = None if self.normalize is None else (self.normalize.mean, self.normalize.std)
            look = Look(self.image_size, self.channels, self.fit, used, self.augment)
            splits, facts = image_splits(self.tables, self.image, self.rows, self.labels, look)
        else:
            assert self.text is not None, "refused by says_what_is_read"
            assert self.tokenizer is not None, "refused by says_what_is_read"
            how = (tokenizer_file(self.tokenizer), pad_token(self.tokenizer, None), self.max_length)
            splits = text_splits(self.tables, self.text, self.rows, self.labels, how)
        classes = {} if self.labels is None else {"classes": list(self.labels.classes)}
        samples = {name: len(split) for name, split in splits.items()}
        return Splits(splits, {**facts, **classes, "samples": samples})
