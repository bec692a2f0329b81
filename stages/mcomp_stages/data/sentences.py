"""Sentences without labels: a text file, one a line, and a tokenizer.

    data:
      type: sentences
      path: sentences.txt
      tokenizer: tokenizer           # a folder with tokenizer.json, as transformers saves it
      max_length: 128
      padding: longest
      batch_size: 32

The inputs are `input_ids`, `attention_mask` and what else of the tokenizer `inputs` names, integers (N, L).
`padding: longest` fills a batch up to its longest sentence, so that captured graphs and ONNX files take any
length up to `max_length`; `max_length` fills all up to it. Longer sentences are cut.

A sentence's own words decide which split it is in: a new line moves no other, and equal lines stay together.
There are no labels: use `task: {type: fidelity}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from mcomp.config import no_effect
from mcomp.data.contract import DataConfig, DataFacts, Serving, SplitName, VaryingSize
from mcomp.data.digests import content_digest
from mcomp.data.fractions import Fractions, shared_out, spread
from mcomp.errors import Problem, RecipeError
from mcomp.fingerprint import fingerprint
from mcomp.recipe.files import NamedPath
from mcomp_stages.data.text_lines import read_lines, require_text_file
from mcomp_stages.data.tokenizer_file import library_version, pad_token, tokenizer_file

if TYPE_CHECKING:
    from mcomp.data.splits import Splits

Input = Literal["input_ids", "attention_mask", "token_type_ids"]
SHARED: tuple[SplitName, ...] = ("validation", "test")


class SentencesConfig(DataConfig):
    """Inputs `input_ids` and `attention_mask` (N, L); targets are empty."""

    type: Literal["sentences"] = "sentences"
    path: NamedPath = no_effect(description="a text file in UTF-8, relative to the recipe; a sentence a line")
    tokenizer: NamedPath = no_effect(description="tokenizer.json, or a folder that holds it")
    max_length: Annotated[int, Field(ge=2, le=2**16, description="tokens at most; the rest is cut")] = 128
    padding: Annotated[
        Literal["longest", "max_length"],
        Field(description="fill a batch up to its longest sentence, or always up to max_length"),
    ] = "longest"
    inputs: Annotated[
        tuple[Input, ...], Field(min_length=1, description="what of the tokenizer the model takes")
    ] = ("input_ids", "attention_mask")
    pad_token: Annotated[
        str | None, Field(description="what fills up; default: what the tokenizer's files say")
    ] = None
    splits: Fractions = Fractions()
    calibration: Annotated[int, Field(ge=2, description="sentences of train that quantizers are set by")] = (
        256
    )

    @field_validator("inputs")
    @classmethod
    def names_each_once(cls, inputs: tuple[Input, ...]) -> tuple[Input, ...]:
        """Refuse a list without tokens, or with the same twice."""
        if "input_ids" not in inputs or len(set(inputs)) < len(inputs):
            raise ValueError("must hold input_ids, and each name once")
        return inputs

    def facts(self) -> DataFacts:
        require_text_file(self.path)
        tokenizer_file(self.tokenizer)
        pad_token(self.tokenizer, self.pad_token)
        length = VaryingSize("sequence", self.max_length)
        vary = self.inputs if self.padding == "longest" else ()
        return DataFacts(varying={name: {1: length} for name in vary}, labelled=False)

    @cached_property
    def content(self) -> str:
        """What `digest` returns: every step of a plan asks for it."""
        files = [content_digest(self.path), content_digest(tokenizer_file(self.tokenizer))]
        return fingerprint([*files, pad_token(self.tokenizer, self.pad_token), library_version()])

    def digest(self) -> str:
        return self.content

    def load(self) -> Splits:
        """Load and tokenize the splits. Raises RecipeError for a broken file or too few sentences."""
        from mcomp.data.splits import Splits
        from mcomp_stages.data.tokens import SentenceSplit, tokenized

        lines = read_lines(self.path)
        tokens = tokenized(
            lines, tokenizer_file(self.tokenizer), pad_token(self.tokenizer, self.pad_token), self.max_length
        )
        length = self.max_length if self.padding == "max_length" else None
        splits = {
            name: SentenceSplit(tokens, positions, self.inputs, length)
            for name, positions in self.positions(lines).items()
        }
        return Splits(splits, {"samples": {name: len(split) for name, split in splits.items()}})

    def serving(self, facts: Mapping[str, Any]) -> Serving | None:
        pad = pad_token(self.tokenizer, self.pad_token)
        length = {"max_length": self.max_length, "padding": self.padding}
        settings = {"kind": "text", "inputs": list(self.inputs), "pad_token": pad, **length}
        return Serving(settings, {"tokenizer.json": tokenizer_file(self.tokenizer)})

    def positions(self, lines: list[str]) -> dict[SplitName, list[int]]:
        """Return the positions of each split's sentences; `calibration` is a part of `train`."""
        shares = {name: getattr(self.splits, name) for name in SHARED}
        parts = shared_out(lines, shares, self.splits.seed)
        few = [name for name, part in parts.items() if len(part) < 2]
        if few:
            what = f"{self.path}: {few[0]} gets fewer than 2 sentences"
            raise RecipeError(Problem("", "path", what, "add some, or change `splits`"))
        chosen = spread([lines[at] for at in parts["train"]], self.calibration, self.splits.seed)
        return {**parts, "calibration": [parts["train"][at] for at in chosen]}
