"""Sentences as tokens: looked up once, filled up batch by batch."""

# N = samples, L = tokens
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mcomp import plainfile
from mcomp.data.contract import Batch
from mcomp.errors import named
from mcomp_stages.data.tokenizer_file import TOKENIZER_LIMIT_BYTES, wrong


@dataclass(frozen=True)
class Tokens:
    """The tokens of each sentence (L,) and the segment that each is in, unpadded, in 64 bits."""

    ids: Sequence[Tensor]
    types: Sequence[Tensor]
    pad_id: int


def tokenized(lines: Sequence[str], file: Path, pad_token: str, max_length: int) -> Tokens:
    """Return the tokens of all lines, at most `max_length` each.

    Raises RecipeError for a tokenizer that is broken, or lacks the token to fill up with.
    """
    with blamed_on(file):
        tokenizer = Tokenizer.from_buffer(plainfile.read(file, TOKENIZER_LIMIT_BYTES))
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        tokenizer.encode(lines[0] if lines else "")  # what is broken says so once, and not for every line
        encodings = tokenizer.encode_batch(list(lines))
        pad_id = tokenizer.token_to_id(pad_token)
    if pad_id is None:
        what = f"{file} has no token '{named(pad_token)}' to fill up with"
        raise wrong(what, "write pad_token: one that it has")
    ids = [torch.tensor(encoding.ids, dtype=torch.int64) for encoding in encodings]
    types = [torch.tensor(encoding.type_ids, dtype=torch.int64) for encoding in encodings]
    return Tokens(ids, types, int(pad_id))


@contextmanager
def blamed_on(file: Path) -> Iterator[None]:
    """Raise a RecipeError for whatever the library raises: plain Exceptions, and what Rust panics with, which
    is none.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise wrong(f"{file} is no tokenizer: {named(str(error).partition(chr(10))[0])}") from error


@dataclass(frozen=True)
class SentenceSplit:
    """Some of the sentences; `positions` are theirs among all. With `length` every batch is that long.

    `target` is of all sentences; None: they have none.
    """

    tokens: Tokens
    positions: Sequence[int]
    inputs: Sequence[str]
    length: int | None
    target: Tensor | None = None
    augmented: bool = False

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, positions: Tensor, draw: int | None = None) -> Batch:
        at = [self.positions[position] for position in positions.tolist()]
        ids = [self.tokens.ids[each] for each in at]
        filled = {
            "input_ids": self.filled(ids, self.tokens.pad_id),
            "attention_mask": self.filled([torch.ones_like(each) for each in ids], 0),
            "token_type_ids": self.filled([self.tokens.types[each] for each in at], 0),
        }
        inputs = {name: filled[name] for name in self.inputs}
        target = torch.empty(len(at), 0) if self.target is None else self.target[at]
        return Batch(torch.tensor(at), inputs, target)

    def filled(self, sentences: list[Tensor], filler: int) -> Tensor:
        """Return sentences of one length (N, L), filled up behind their end."""
        longest = pad_sequence(sentences, batch_first=True, padding_value=filler)
        missing = 0 if self.length is None else self.length - longest.shape[1]
        return torch.nn.functional.pad(longest, (0, missing), value=filler)
