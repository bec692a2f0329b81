"""Which channels belong together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp_stages.methods.pruning.group_records import STAYS, Groups
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.methods.pruning.views import split_axes
from mcomp_stages.models.resnet import ResNetConfig
from tests.architectures import NETS, example, example_of


def groups_of(groups: Groups, name: str, axis: int) -> list[int]:
    """The groups along an axis; all STAYS if none of them can be cut."""
    found = [a.groups.tolist() for a in groups.axes if (a.name, a.axis) == (name, axis)]
    return found[0] if found else [STAYS]


def stays(groups: Groups, name: str, axis: int) -> bool:
    return set(groups_of(groups, name, axis)) == {STAYS}


class Calls(nn.Module):
    """A convolution, something done to its output, and a convolution."""

    def __init__(self, between: object, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.other = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(width, 8, 1)
        self.head = nn.Linear(8, 2)
        self.between = between

    def forward(self, image: Tensor) -> Tensor:
        x = self.between(self.first(image), self.other(image), image)  # type: ignore[operator]
        return self.head(self.last(x).mean((2, 3)))


def traced(between: object, width: int = 8) -> Groups:
    return channel_groups(Calls(between, width), example())


def test_a_residual_add_ties_the_channels_it_meets() -> None:
    groups = traced(lambda x, y, image: x + y)
    assert groups_of(groups, "first.weight", 0) == groups_of(groups, "other.weight", 0)
    assert groups_of(groups, "first.weight", 0) == groups_of(groups, "last.weight", 1)
    assert len(set(groups_of(groups, "first.weight", 0))) == 8


def test_concatenation_keeps_channels_apart() -> None:
    groups = traced(lambda x, y, image: torch.cat([x, y], 1), width=16)
    both = groups_of(groups, "first.weight", 0) + groups_of(groups, "other.weight", 0)
    assert groups_of(groups, "last.weight", 1) == both
    assert len(set(both)) == 16


def test_what_meets_the_input_stays() -> None:
    groups = traced(lambda x, y, image: x + torch.cat([image, image, image[:, :2]], 1))
    assert stays(groups, "first.weight", 0)
    assert not stays(groups, "last.weight", 0)


def test_a_mask_over_positions_freezes_nothing() -> None:
    assert not stays(traced(lambda x, y, image: x * image[:, :1]), "first.weight", 0)


def test_the_output_stays_and_so_does_the_input() -> None:
    groups = traced(lambda x, y, image: x)
    assert stays(groups, "head.weight", 0)
    assert stays(groups, "first.weight", 1)


def test_padding_of_positions_is_free_and_padding_of_channels_stays() -> None:
    pad = nn.functional.pad
    spatial = traced(lambda x, y, image: pad(x, (1, 1, 2, 2)))
    assert len(set(groups_of(spatial, "last.weight", 1))) == 8
    channel = traced(
        lambda x, y, image: pad(x, (0, 0, 0, 0, 2, 2)) + torch.cat([y, x[:, :, :, :]], 1)[:, :12], 12
    )
    assert STAYS in groups_of(channel, "last.weight", 1)


def test_option_a_shortcuts_freeze_only_the_padded_channels() -> None:
    config = ResNetConfig(depth=20, width=16, shortcut="pad", in_channels=3, num_classes=10)
    groups = channel_groups(config.build(), example(32))
    stage2 = groups_of(groups, "layer2.0.conv2.weight", 0)
    assert stage2[:8] == stage2[-8:] == [STAYS] * 8
    assert stage2[8:-8] == groups_of(groups, "conv1.weight", 0)


def test_positions_written_in_the_model_freeze_the_channels_they_point_at() -> None:
    for between in (
        lambda x, y, image: x[:, 1:5] + y[:, 4:],
        lambda x, y, image: x[:, ::2] + y[:, 4:],
        lambda x, y, image: x.split([3, 5], 1)[1][:, 1:] + y[:, 4:],
        lambda x, y, image: torch.roll(x, 1, 1)[:, 4:] + y[:, 4:],
    ):
        assert stays(traced(between, width=4), "first.weight", 0)


def test_slices_that_are_equal_parts_lose_the_same_positions() -> None:
    groups = traced(lambda x, y, image: x[:, :4] + y[:, 4:], width=4)
    first, other = (groups_of(groups, f"{name}.weight", 0) for name in ("first", "other"))
    assert first == other == 2 * groups_of(groups, "last.weight", 1)
    assert len(set(first)) == 4


def test_softmax_over_channels_freezes_them() -> None:
    assert stays(traced(lambda x, y, image: x.softmax(1)), "first.weight", 0)
    assert not stays(traced(lambda x, y, image: x.softmax(2)), "first.weight", 0)


def test_a_statistic_over_channels_is_one_of_those_that_stay() -> None:
    groups = traced(lambda x, y, image: x - x.mean(1, keepdim=True))
    assert len(set(groups_of(groups, "first.weight", 0))) == 8
    ((axis, over),) = groups.statistics.values()
    assert (axis, over.tolist()) == (1, groups_of(groups, "first.weight", 0))


def test_layer_norm_passes_the_width_on() -> None:
    groups = channel_groups(NETS["mlp"](), example())
    for name, axis in (("norm.weight", 0), ("norm.bias", 0), ("up.weight", 0), ("side.weight", 0)):
        assert groups_of(groups, name, axis) == groups_of(groups, "embed.weight", 0)
    assert groups_of(groups, "up.weight", 1) == groups_of(groups, "side.weight", 1)
    assert groups_of(groups, "down.weight", 0) == groups_of(groups, "up.bias", 0)
    assert not groups.unknown


def test_a_head_is_cut_as_a_whole_in_queries_keys_and_values() -> None:
    groups = channel_groups(NETS["vit"](), example())
    heads = groups_of(groups, "blocks.0.attention.proj.weight", 1)
    assert heads == [head for head in sorted(set(heads)) for _ in range(8)]
    assert groups_of(groups, "blocks.0.attention.qkv.weight", 0) == 3 * heads


def test_heads_that_share_keys_go_together_with_their_bias() -> None:
    groups = channel_groups(NETS["eager"](), example())
    first, second = sorted(set(groups_of(groups, "attention.query.weight", 0)))
    assert groups_of(groups, "attention.query.weight", 0) == [first] * 16 + [second] * 16
    assert groups_of(groups, "attention.key.weight", 0) == [first] * 8 + [second] * 8
    assert groups_of(groups, "attention.bias", 0) == [first] * 2 + [second] * 2


def test_the_width_runs_through_residuals_norms_positions_and_tokens() -> None:
    groups = channel_groups(NETS["vit"](), example())
    width = groups_of(groups, "patches.weight", 0)
    assert len(set(width)) == 32
    for name, axis in (
        ("token", 2),
        ("positions", 2),
        ("blocks.0.norm1.weight", 0),
        ("blocks.0.scale", 0),
        ("blocks.1.attention.proj.weight", 0),
        ("blocks.1.mlp.0.weight", 1),
        ("head.weight", 1),
    ):
        assert groups_of(groups, name, axis) == width


def test_a_scale_shared_by_all_heads_stays_when_heads_go() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(12, 16) for _ in range(3))
            self.norm = nn.LayerNorm(4)
            self.scale = nn.Parameter(torch.ones(4))
            self.head = nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            query, key, value = (
                part(x).unflatten(-1, (-1, 4)).transpose(1, 2) for part in (self.query, self.key, self.value)
            )
            key = key * torch.rsqrt(key.pow(2).mean(-1, keepdim=True)) * self.scale
            y = nn.functional.scaled_dot_product_attention(self.norm(query), key, value)
            return self.head(y.transpose(1, 2).flatten(2))

    groups = channel_groups(Normed(), {"x": torch.randn(2, 3, 12)})
    assert len(set(groups_of(groups, "query.weight", 0))) == 4
    assert stays(groups, "norm.weight", 0)
    assert stays(groups, "scale", 0)


def test_a_mask_with_a_row_for_each_head_makes_them_stay() -> None:
    class Masked(nn.Module):
        def __init__(self, rows: int) -> None:
            super().__init__()
            self.qkv = nn.Linear(12, 48)
            self.register_buffer("mask", torch.zeros(rows, 3, 3))
            self.head = nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            query, key, value = self.qkv(x).unflatten(-1, (3, -1, 4)).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=self.mask)
            return self.head(y.transpose(1, 2).flatten(2))

    assert not stays(channel_groups(Masked(1), {"x": torch.randn(2, 3, 12)}), "qkv.weight", 0)
    assert stays(channel_groups(Masked(4), {"x": torch.randn(2, 3, 12)}), "qkv.weight", 0)


def test_a_matrix_of_data_mixes_positions_and_leaves_channels_free() -> None:
    def between(x: Tensor, y: Tensor, image: Tensor) -> Tensor:
        return torch.matmul(x, image[:, :1])

    assert len(set(groups_of(traced(between), "first.weight", 0))) == 8


def test_large_groups_of_a_convolution_lose_the_same_positions() -> None:
    groups = channel_groups(NETS["shuffled_groups"](), example())
    assert groups.equal_counts == {"squeeze.weight", "expand.weight", "rise.weight"}
    stem = groups_of(groups, "stem.weight", 0)
    assert stem[:16] == stem[16:] == groups_of(groups, "squeeze.weight", 1)


def test_parts_of_a_weight_are_cut_in_the_weight() -> None:
    groups = channel_groups(NETS["linear_attention"](), example())
    weight = groups_of(groups, "weight", 0)
    assert weight[:24] == weight[24:] == groups_of(groups, "value.weight", 0)
    assert groups_of(groups, "shift", 0) == weight
    assert groups_of(groups, "weight", 1) == groups_of(groups, "embed.weight", 0)


def test_a_table_of_words_that_is_also_the_last_layer_keeps_its_rows() -> None:
    groups = channel_groups(NETS["towers"](), example_of("towers"))
    assert stays(groups, "words.weight", 0)
    assert groups_of(groups, "words.weight", 1) == groups_of(groups, "tower.0.weight", 0)
    assert groups_of(groups, "back.weight", 0) == groups_of(groups, "words.weight", 1)


def test_attention_that_has_keys_of_its_own_stays() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.inner(x, x, x)[0])

    assert not channel_groups(Attention(), {"x": torch.randn(2, 3, 8)}).num_groups


def test_an_unknown_operator_freezes_what_it_sees_and_is_named_with_its_module() -> None:
    groups = channel_groups(NETS["sorting"](), example())
    assert stays(groups, "stem.weight", 0)
    assert not stays(groups, "mixed.weight", 0)
    assert groups.unknown == ("aten.cumsum.default",)


def test_flatten_gives_a_channel_one_index_for_each_position() -> None:
    groups = channel_groups(NETS["vgg"](), example())
    flat = groups_of(groups, "classifier.0.weight", 1)
    assert flat == [g for g in groups_of(groups, "features.8.weight", 0) for _ in range(4)]


def test_buffers_of_a_norm_follow_its_channels() -> None:
    groups = channel_groups(NETS["vgg"](), example())
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert groups_of(groups, f"features.1.{name}", 0) == groups_of(groups, "features.0.weight", 0)


def test_grouped_convolution_and_group_norm_lose_whole_groups() -> None:
    groups = channel_groups(NETS["grouped"](), example())
    stem = np.array(groups_of(groups, "stem.weight", 0)).reshape(8, 4)
    assert (stem == stem[:, :1]).all()
    assert len(np.unique(stem)) == 8
    assert groups_of(groups, "scale", 0) == groups_of(groups, "grouped.weight", 0)
    assert stays(groups, "grouped.weight", 1)


def test_a_shuffle_ties_the_same_position_of_both_halves() -> None:
    groups = channel_groups(NETS["shuffle"](), example())
    stem = groups_of(groups, "stem.weight", 0)
    assert stem[:16] == stem[16:]
    assert len(set(stem)) == 16


def test_tied_weights_are_one_parameter() -> None:
    groups = channel_groups(NETS["tied"](), example())
    assert not any(axis.name == "second.weight" for axis in groups.axes)
    assert groups_of(groups, "first.weight", 0) == groups_of(groups, "first.weight", 1)
    assert "second.weight" not in groups.shapes


def test_sets_hold_the_groups_that_cut_the_same_axes() -> None:
    groups = channel_groups(NETS["mbconv"](), example())
    assert sorted(len(s.groups) for s in groups.sets) == [16, 16, 16, 48, 48]
    every = np.sort(np.concatenate([s.groups for s in groups.sets]))
    assert every.tolist() == list(range(groups.num_groups))


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("vgg", {"features.0": "filters", "features.8": "filters", "classifier.0": "neurons"}),
        ("mbconv", {"stem": "width", "blocks.0.expand": "width", "blocks.0.gate.reduce": "filters"}),
        ("vit", {"patches": "width", "blocks.0.attention.qkv": "heads", "blocks.0.mlp.0": "neurons"}),
        ("eager", {"attention.query": "heads", "gate": "neurons", "up": "neurons", "down": "width"}),
        ("norms", {"stem": "filters", "wide": "filters"}),
    ],
)
def test_sets_say_what_their_groups_are(name: str, units: dict[str, str]) -> None:
    groups = channel_groups(NETS[name](), example())
    found = {layer: group_set.unit for group_set in groups.sets for layer in group_set.layers}
    assert found.items() >= units.items()


def test_skipped_layers_keep_their_output_channels() -> None:
    groups = channel_groups(NETS["vgg"](), example(), skip=["features.4"])
    assert stays(groups, "features.4.weight", 0)
    assert not stays(groups, "features.4.weight", 1)
    with pytest.raises(StageError, match=r"no module matches 'featres.4'; did you mean 'features.4'"):
        channel_groups(NETS["vgg"](), example(), skip=["featres.4"])


@pytest.mark.parametrize(
    ("old", "new", "split"),
    [
        ((2, 12, 5), (2, 3, 4, 5), [[1, 2]]),
        ((2, 3, 4), (2, 12), []),
        ((6, 7), (2, 3, 7), [[0, 1]]),
        ((2, 6), (3, 4), [[0, 1]]),
        ((2, 8), (2, 8, 1, 1), []),
        ((), (1, 1), []),
    ],
)
def test_split_axes(old: tuple[int, ...], new: tuple[int, ...], split: list[list[int]]) -> None:
    assert list(split_axes(old, new)) == split
