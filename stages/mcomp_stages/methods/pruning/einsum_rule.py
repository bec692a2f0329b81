"""Labels through `einsum` of two activations, as the matrix product that it is after moving axes."""

from __future__ import annotations

from math import prod

from mcomp_stages.methods.pruning.attention_rules import product
from mcomp_stages.methods.pruning.label_tensors import Labels, compressed
from mcomp_stages.methods.pruning.labels import Call, unknown_layer
from mcomp_stages.methods.pruning.trace import Trace


def einsum(trace: Trace, call: Call) -> Labels:
    """Two activations with each letter once in each; everything else freezes."""
    equation = call.arguments["equation"].replace(" ", "")
    operands = call.arguments["tensors"]
    terms, _, result = equation.partition("->")
    letters = terms.split(",")
    plain = "." not in equation and "->" in equation
    if not plain or len(operands) != 2 or any(len(set(term)) != len(term) for term in letters):
        return unknown_layer(trace, call)
    left, right = (dict(zip(term, range(len(term)), strict=True)) for term in letters)
    shared = [letter for letter in result if letter in left and letter in right]
    contracted = [letter for letter in left if letter in right and letter not in result]
    rows = [letter for letter in result if letter in left and letter not in right]
    columns = [letter for letter in result if letter in right and letter not in left]
    if len(shared) + len(rows) + len(columns) != len(result) or len({*left, *right}) != len(
        {*result, *contracted}
    ):
        return unknown_layer(trace, call)
    labels = [trace.labels_of(operand) for operand in operands]
    left_LK = gathered(labels[0], left, shared, rows, contracted)
    right_KN = gathered(labels[1], right, shared, contracted, columns)
    shape = (*left_LK.shape[:-1], right_KN.shape[-1])
    found = product(trace, left_LK, right_KN, shape)
    sizes = dict(zip(letters[0], labels[0].shape, strict=True)) | dict(
        zip(letters[1], labels[1].shape, strict=True)
    )
    order = [*shared, *rows, *columns]
    apart = found.reshape([sizes[letter] for letter in order])
    return compressed(apart.permute([order.index(letter) for letter in result]))


def gathered(labels: Labels, axes: dict[str, int], *groups: list[str]) -> Labels:
    """Move the axes behind each other by groups of letters; all but the first group become one axis each."""
    moved = labels.permute([axes[letter] for group in groups for letter in group])
    first = len(groups[0])
    sizes = list(moved.shape)
    shape, position = sizes[:first], first
    for group in groups[1:]:
        shape.append(prod(sizes[position : position + len(group)]))
        position += len(group)
    return moved.reshape(shape)
