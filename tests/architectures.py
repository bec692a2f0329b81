"""Small networks, each with one thing that makes pruning hard. The input is called `image`."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcomp.model.spec import ModelConfig


class VGG(nn.Module):
    """Batch norm after each convolution, and a flatten that turns one channel into several inputs."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 24, 32)
        blocks: list[nn.Module] = []
        for before, after in pairwise(widths):
            blocks += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            blocks += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(
            nn.Linear(32 * 4, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Dropout(0.5), nn.Linear(40, 10)
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(image), 1))


class ConcatNet(nn.Module):
    """Every layer reads the concatenation of all before it (DenseNet)."""

    def __init__(self, growth: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, growth, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(growth * (i + 1)) for i in range(3))
        self.convs = nn.ModuleList(
            nn.Conv2d(growth * (i + 1), growth, 3, padding=1, bias=False) for i in range(3)
        )
        self.head = nn.Linear(growth * 4, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(functional.relu(norm(x)))], dim=1)
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class SqueezeExcite(nn.Module):
    """A gate for each channel, computed from all of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, 16, 1)
        self.expand = nn.Conv2d(16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(functional.silu(self.reduce(pooled))))


class MBConv(nn.Module):
    """Inverted bottleneck: expand, depthwise, squeeze-excite, project, add."""

    def __init__(self, channels: int, expanded: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, expanded, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(expanded)
        self.depthwise = nn.Conv2d(expanded, expanded, 3, padding=1, groups=expanded, bias=False)
        self.norm2 = nn.BatchNorm2d(expanded)
        self.gate = SqueezeExcite(expanded)
        self.project = nn.Conv2d(expanded, channels, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.hardswish(self.norm1(self.expand(x)))
        y = functional.relu6(self.norm2(self.depthwise(y)))
        return x + self.norm3(self.project(self.gate(y)))


class MBConvNet(nn.Module):
    """Two inverted bottlenecks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(MBConv(16, 48), MBConv(16, 48))
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(image)).mean((2, 3)))


class UNet(nn.Module):
    """Down, up by nearest, bilinear and transposed convolution, with a concatenated skip at each level."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(3, 16, 3, padding=1)
        self.down2 = nn.Conv2d(16, 24, 3, padding=1)
        self.bottom = nn.Conv2d(24, 32, 3, padding=1)
        self.up1 = nn.Conv2d(32 + 24, 24, 3, padding=1)
        self.rise = nn.ConvTranspose2d(24, 16, 2, stride=2)
        self.up2 = nn.Conv2d(16 + 16 + 16, 16, 3, padding=1)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        first = functional.relu(self.down1(image))
        second = functional.relu(self.down2(functional.max_pool2d(first, 2)))
        bottom = functional.relu(self.bottom(functional.avg_pool2d(second, 2)))
        middle = torch.cat([functional.interpolate(bottom, scale_factor=2), second], 1)
        middle = functional.relu(self.up1(middle))
        down = functional.interpolate(first[:, :, ::2, ::2], scale_factor=2, mode="bilinear")
        return self.head(functional.relu(self.up2(torch.cat([self.rise(middle), first, down], 1))))


class GroupedNet(nn.Module):
    """Grouped convolution and group norm, which lose whole groups, and a parameter used as data."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.norm = nn.GroupNorm(8, 32)
        self.grouped = nn.Conv2d(32, 64, 3, padding=1, groups=8)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 64).view(64, 1, 1))
        self.act = nn.PReLU(64)
        self.head = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.grouped(functional.gelu(self.norm(self.stem(image))))
        return self.head(self.act(x * self.scale).mean((2, 3)))


class ShuffleNet(nn.Module):
    """Channels are halved, one half is convolved, and the halves are shuffled together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.branch = nn.Sequential(
            nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU()
        )
        self.last = nn.Conv2d(32, 24, 1)
        self.head = nn.Linear(24, 10)

    def forward(self, image: Tensor) -> Tensor:
        left, right = self.stem(image).chunk(2, dim=1)
        x = torch.cat([left, self.branch(right)], dim=1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(functional.relu(self.last(x)).mean((2, 3)))


class TiedNet(nn.Module):
    """One weight under two names: the layer in the middle runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3 * 16 * 16, 32)
        self.first = nn.Linear(32, 32)
        self.second = nn.Linear(32, 32)
        self.second.weight = self.first.weight
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.stem(image.flatten(1)))
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


class StoredTransposed(nn.Module):
    """A linear that keeps its weight as (inputs, outputs), as GPT-2 does."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


class MLP(nn.Module):
    """A layer norm, which fixes the width it sees, transposed weights, and a stack that is summed."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * 16 * 16, 32)
        self.norm = nn.LayerNorm(32)
        self.up = StoredTransposed(32, 48)
        self.side = StoredTransposed(32, 48)
        self.act = nn.PReLU()
        self.down = StoredTransposed(48, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.embed(image.to(torch.float32).flatten(1)))
        both = torch.stack([self.act(self.up(x)), self.side(x)], dim=1).sum(1)
        return self.head(torch.tanh(self.down(both)))


class FixedSizeNet(nn.Module):
    """A number of channels is written in forward, where a cut cannot change it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.last = nn.Conv2d(32, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        halves = self.stem(image).view(-1, 2, 16, 16, 16)
        shuffled = halves.transpose(1, 2).reshape(-1, 32, 16, 16)
        return self.head(self.last(shuffled).mean((2, 3)))


class SortingNet(nn.Module):
    """`cumsum` over channels: an operator that no rule knows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.mixed = nn.Conv2d(16, 32, 1)
        self.last = nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.mixed(torch.cumsum(self.stem(image), 1))
        return self.head(self.last(torch.relu(x)).mean((2, 3)))


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


class NormsNet(nn.Module):
    """Layer norm over channels of a map, group norm with one group, instance norm, a channel statistic."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 2, stride=2)
        self.layer = nn.LayerNorm(24)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.group = nn.GroupNorm(1, 24)
        self.wide = nn.Conv2d(24, 32, 1)
        self.instance = nn.InstanceNorm2d(32, affine=True)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.layer(self.stem(image).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = functional.gelu(self.wide(self.group(self.depthwise(x))))
        x = functional.normalize(self.instance(x), dim=1) - x.amax(1, keepdim=True)
        return self.head(x.mean((2, 3)))


class ShuffledGroups(nn.Module):
    """Two grouped convolutions with a shuffle between: the same positions of every group go together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.squeeze = nn.Conv2d(32, 24, 1, groups=2)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.expand = nn.Conv2d(24, 32, 1, groups=2)
        self.rise = nn.ConvTranspose2d(32, 16, 2, stride=2, groups=2)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        y = nn.functional.relu(self.squeeze(x))
        y = y.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return self.head(self.rise(x + self.expand(self.depthwise(y))).mean((2, 3)))


class SuperResolution(nn.Module):
    """Channels that become pixels, and pixels that become channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.down = nn.Conv2d(64, 32, 1)
        self.last = nn.Conv2d(8, 12, 3, padding=1)
        self.head = nn.Conv2d(12, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.pixel_unshuffle(self.stem(image), 2)
        x = functional.pixel_shuffle(torch.relu(self.down(x)), 2)
        return self.head(torch.relu(self.last(x)))


class HalvedNet(nn.Module):
    """Halves of the channels by slices, with their number in an attribute; positions rolled and picked."""

    def __init__(self) -> None:
        super().__init__()
        self.half = 12
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.last = nn.Conv2d(12, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.roll(self.stem(image), (1, 1), (2, 3))
        x = x[:, : self.half] * torch.sigmoid(x[:, self.half :])
        corners = self.last(x)[:, :, torch.tensor([0, -1])]
        return self.head(corners.mean((2, 3)))


class TwoTowers(nn.Module):
    """Two inputs through one tower, tokens and pictures, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.words = nn.Embedding(20, 24)
        self.norm = nn.LayerNorm(24)
        self.joint = nn.Linear(48, 32)
        self.score = nn.Linear(32, 1)
        self.classes = nn.Linear(32, 20, bias=False)
        self.back = nn.Linear(32, 24)

    def forward(self, image: Tensor, other: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        first, second = (self.tower(picture).mean((2, 3)) for picture in (image, other))
        text = self.norm(self.words(tokens)).mean(1)
        x = torch.relu(self.joint(torch.cat([first + text, second - text], dim=1)))
        logits = functional.linear(self.back(x), self.words.weight)
        return {"score": self.score(x), "logits": logits + self.classes(x)}


NETS: dict[str, type[nn.Module]] = {
    "vgg": VGG,
    "concat": ConcatNet,
    "mbconv": MBConvNet,
    "unet": UNet,
    "grouped": GroupedNet,
    "shuffle": ShuffleNet,
    "tied": TiedNet,
    "mlp": MLP,
    "fixed_size": FixedSizeNet,
    "sorting": SortingNet,
    "vit": SmallViT,
    "eager": EagerNet,
    "torch_transformer": TorchTransformer,
    "linear_attention": LinearAttention,
    "norms": NormsNet,
    "shuffled_groups": ShuffledGroups,
    "super_resolution": SuperResolution,
    "halved": HalvedNet,
    "towers": TwoTowers,
}


class NetConfig(ModelConfig):
    """One of the networks as an architecture of a recipe."""

    type: Literal["net"] = "net"
    name: str

    def build(self) -> nn.Module:
        return NETS[self.name]()


def example(size: int = 16) -> dict[str, Tensor]:
    """Return two pictures."""
    return {"image": torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))}


def example_of(name: str) -> dict[str, Tensor]:
    """Return two samples of what a network takes."""
    inputs = example()
    if name == "towers":
        inputs |= {"other": inputs["image"].flip(-1), "tokens": torch.arange(14).view(2, 7)}
    return inputs
