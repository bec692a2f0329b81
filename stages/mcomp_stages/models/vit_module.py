"""The modules of a vision transformer. Parameter names are those of timm, so that its weights fit."""

# N = samples, L = tokens, W = width, H = heads, D = width of a head
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SPREAD = 0.02  # standard deviation of fresh positions
EPSILON = 1e-6


class PatchEmbedding(nn.Module):
    """Cuts images (N, in_channels, S, S) into squares and turns each into a token (N, L, W)."""

    def __init__(self, patch: int, in_channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, patch, patch)

    def forward(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.proj(image)
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Every token looks at all others. `num_heads` and `head_width` follow when heads are cut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_width = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_NLW: Tensor) -> Tensor:
        qkv_N3HLD = self.qkv(x_NLW).unflatten(-1, (3, self.num_heads, self.head_width)).permute(0, 2, 3, 1, 4)
        query, key, value = qkv_N3HLD.unbind(1)
        seen_NHLD = functional.scaled_dot_product_attention(query, key, value)
        answer: Tensor = self.proj(seen_NHLD.transpose(1, 2).flatten(2))
        return answer


class MLP(nn.Module):
    """Two layers on each token by itself."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return y


class Block(nn.Module):
    """Attention, then an MLP, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.mlp = MLP(width, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attn(self.norm1(x)))
        y: Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return y


class ViT(nn.Module):
    """Takes `image` (N, in_channels, S, S), returns logits (N, num_classes) that the class token carries."""

    def __init__(
        self,
        image_size: int,
        patch: int,
        depth: int,
        width: int,
        heads: int,
        hidden: int,
        dropout: float,
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        num_tokens = (image_size // patch) ** 2 + 1
        self.patch_embed = PatchEmbedding(patch, in_channels, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, num_tokens, width))
        self.blocks = nn.Sequential(*(Block(width, heads, hidden, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, EPSILON)
        self.head = nn.Linear(width, num_classes)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        patches_NLW = self.patch_embed(image)
        first_N1W = self.cls_token.expand(patches_NLW.shape[0], -1, -1)
        x = torch.cat([first_N1W, patches_NLW], dim=1) + self.pos_embed
        logits: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return logits


def initialise(vit: ViT) -> None:
    """Draw weights as in Glorot and Bengio 2010 (uniform), positions near zero, biases zero, in place.

    As the paper's own code; a fixed narrow deviation, as in timm, learns slowly at small widths.
    """
    nn.init.normal_(vit.pos_embed, std=SPREAD)
    for part in vit.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
