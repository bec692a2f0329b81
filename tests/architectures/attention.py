"""Networks with attention, written in the ways in which people write it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class FusedAttention(nn.Module):
    """Queries, keys and values from one linear, heads by a view, `scaled_dot_product_attention`."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = width // num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        samples, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(samples, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        y = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(y.transpose(1, 2).reshape(samples, tokens, self.num_heads * self.head_dim))


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP, each behind a layer scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = FusedAttention(width, 4)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.0, width))
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 40), nn.GELU(), nn.Linear(40, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale * self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SmallViT(nn.Module):
    """Patches, a class token, learned positions, two blocks."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width))
        self.blocks = nn.Sequential(TransformerBlock(width), TransformerBlock(width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class EagerAttention(nn.Module):
    """Grouped queries written out: two heads of keys for four of queries, a learned bias for each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, 32)
        self.key = nn.Linear(width, 16)
        self.value = nn.Linear(width, 16)
        self.bias = nn.Parameter(torch.randn(4, 1, 1) * torch.ones(4, 16, 16))
        self.out = nn.Linear(32, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part(x).unflatten(-1, (-1, 8)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        key, value = (part.repeat_interleave(2, dim=1) for part in (key, value))
        scores = torch.matmul(query, key.transpose(-2, -1)) / 8**0.5 + self.bias
        return self.out(torch.matmul(scores.softmax(-1), value).transpose(1, 2).flatten(2))


class EagerNet(nn.Module):
    """Attention written out between an RMS norm of torch and one written out."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.norm = nn.RMSNorm(width)
        self.attention = EagerAttention(width)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, width))
        self.gate = nn.Linear(width, 40)
        self.up = nn.Linear(width, 40)
        self.down = nn.Linear(40, width)
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = x + self.attention(self.norm(x))
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale
        x = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return self.head(x.mean(1))


class TorchTransformer(nn.Module):
    """torch's own encoder layers, whose attention cannot lose a head without help."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(48, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 40, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        tokens = image.flatten(2).unflatten(-1, (16, 16)).permute(0, 2, 1, 3).flatten(2)
        return self.head(self.encoder(self.embed(tokens)).mean(1))


class LinearAttention(nn.Module):
    """Products by `einsum`, then by `bmm` with heads inside the batch; parts of a weight used apart."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.embed = nn.Conv2d(3, 24, 4, stride=4)
        self.weight = nn.Parameter(torch.randn(48, 24) / 24**0.5)
        self.shift = nn.Parameter(torch.randn(48))
        self.value = nn.Linear(24, 24)
        self.query = nn.Linear(24, 32)
        self.mixed = nn.Linear(24, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image).flatten(2).transpose(1, 2)
        (w_query, w_key), (b_query, b_key) = self.weight.chunk(2), self.shift.chunk(2)
        query = functional.elu(functional.linear(x, w_query, b_query)).unflatten(-1, (-1, 8)) + 1
        key = functional.elu(functional.linear(x, w_key, b_key)).unflatten(-1, (-1, 8)) + 1
        value = self.value(x).unflatten(-1, (-1, 8))
        state = torch.einsum("bnhk,bnhv->bhkv", key, value)
        y = torch.einsum("bnhk,bhkv->bnhv", query, state).flatten(2)
        query, mixed = (
            part(y).unflatten(-1, (self.num_heads, -1)).transpose(1, 2).flatten(0, 1)
            for part in (self.query, self.mixed)
        )
        scores = torch.baddbmm(y.new_zeros(1), query, query.transpose(1, 2))
        z = torch.bmm(scores.softmax(-1), mixed).view(len(image), self.num_heads, 16, 8)
        return self.head(z.mean(2).flatten(1))
