"""Small networks with every kind of layer that keeps its weight in few bits, and the models made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp_stages.methods.quantization.weights.edit import StoredWeights
from mcomp_stages.methods.quantization.weights.grid import extremes
from mcomp_stages.methods.quantization.weights.record import StoredWeight
from mcomp_stages.methods.quantization.weights.round_to_nearest import round_to_nearest
from mcomp_stages.methods.quantization.weights.stored import numbers, stored_tensors, width_of


class Reader(nn.Module):
    """Tokens are looked up, three linears read the same, and the head is tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 20)
        self.query, self.key, self.value = (nn.Linear(20, 20, bias=bias) for bias in (True, False, True))
        self.norm = nn.LayerNorm(20)
        self.conv = nn.Conv1d(20, 20, 3, padding=1, groups=2)
        self.head = nn.Linear(20, 30, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = self.norm(x + torch.tanh(self.query(x)) * self.key(x) + self.value(x))
        x = x + torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2)
        scores: Tensor = self.head(x.mean(1))
        return scores


class ReaderConfig(ModelConfig):
    type: Literal["reader"] = "reader"

    def build(self) -> nn.Module:
        return Reader()


WEIGHTS = ("embed.weight", "query.weight", "key.weight", "value.weight", "conv.weight")


def reader(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    spec = ReaderConfig()
    return Model(spec.build().eval(), spec)


def tokens(number: int = 4, length: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"tokens": torch.randint(0, 30, (number, length), generator=generator)}


def record(
    shape: tuple[int, ...], bits: int = 4, group_size: int | None = None, **fields: object
) -> StoredWeight:
    columns = torch.Size(shape[1:]).numel()
    return StoredWeight.model_validate(
        {"shape": shape, "bits": bits, "group_size": group_size or columns, **fields}
    )


def stored_model(
    model: Model, records: Mapping[str, StoredWeight], gains: Mapping[str, Tensor] | None = None
) -> Model:
    """Return a copy whose weights are rounded to nearest and kept as `records` say."""
    model, state = model.copy(), {}
    for name, kept in records.items():
        gain = (gains or {}).get(name)
        weight = model.module.get_parameter(name).detach().flatten(1)
        integers = round_to_nearest(weight if gain is None else weight / gain, width_of(kept), extremes)
        parts = stored_tensors(kept, integers, gain)
        state |= {f"stored.{name}.{part}": tensor for part, tensor in parts.items()}
        model.module.get_parameter(name).data.copy_(numbers(kept, parts))
    result = model.edited(StoredWeights(weights=dict(records)))
    result.state.update(state)
    return result
