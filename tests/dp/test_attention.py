# SPDX-License-Identifier: Apache-2.0
"""Tests of attention in terms of linear layers, against torch's own function."""

import inspect
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

from consilium.dp.attention import Attention

PLACES, KEYS, ROWS, FEATURES, HEADS = 5, 7, 3, 8, 2
NAMES = inspect.signature(F.multi_head_attention_forward)


def call_of(
    layer: nn.MultiheadAttention, values: tuple[Tensor, ...], more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The arguments that the layer gives to torch's function."""
    separate = layer.in_proj_weight is None
    given = {
        "use_separate_proj_weight": separate,
        "q_proj_weight": layer.q_proj_weight,
        "k_proj_weight": layer.k_proj_weight,
        "v_proj_weight": layer.v_proj_weight,
    }
    positional = (
        *values,
        layer.embed_dim,
        layer.num_heads,
        layer.in_proj_weight,
        layer.in_proj_bias,
        layer.bias_k,
        layer.bias_v,
        layer.add_zero_attn,
        layer.dropout,
        layer.out_proj.weight,
        layer.out_proj.bias,
    )
    return NAMES.bind(*positional, **given, **(more or {})).arguments


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def layer_of(settings: Mapping[str, Any] | None = None) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(FEATURES, HEADS, dtype=torch.float64, **(settings or {}))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-1, 1)
    return layer


def assert_is_that_of_torch(given: dict[str, Any]) -> None:
    expected, weights = F.multi_head_attention_forward(**given)
    found, shown = Attention(given)()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert (shown is None) == (weights is None)
    if weights is not None:
        torch.testing.assert_close(shown, weights, rtol=1e-12, atol=1e-12)


HIDDEN = torch.arange(ROWS)[:, None] + torch.arange(KEYS) > KEYS
MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "no weights wanted": {"need_weights": False},
    "weights of each head": {"average_attn_weights": False},
    "boolean": {"attn_mask": torch.ones(PLACES, KEYS).triu(2).bool()},
    "added": {"attn_mask": drawn(PLACES, KEYS)},
    "of each row and head": {"attn_mask": drawn(ROWS * HEADS, PLACES, KEYS)},
    "of keys": {"key_padding_mask": HIDDEN},
    "of keys, added": {"key_padding_mask": drawn(ROWS, KEYS)},
    "both": {"key_padding_mask": HIDDEN, "attn_mask": torch.eye(PLACES, KEYS).bool()},
}


@pytest.mark.parametrize("mask", MASKS)
def test_attention_is_that_of_torch(mask: str) -> None:
    values = (drawn(PLACES, ROWS, FEATURES), *[drawn(KEYS, ROWS, FEATURES)] * 2)

    assert_is_that_of_torch(call_of(layer_of(), values, MASKS[mask]))


def test_rows_may_be_missing() -> None:
    values = (drawn(PLACES, FEATURES), *[drawn(KEYS, FEATURES)] * 2)

    assert_is_that_of_torch(call_of(layer_of(), values))


def test_keys_and_values_may_have_features_of_their_own() -> None:
    values = (drawn(PLACES, ROWS, FEATURES), drawn(KEYS, ROWS, 3), drawn(KEYS, ROWS, 4))

    assert_is_that_of_torch(call_of(layer_of({"kdim": 3, "vdim": 4, "bias": False}), values))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"add_bias_kv": True}, "an attention with bias_k, bias_v"),
        ({"add_zero_attn": True}, "an attention with add_zero_attn"),
        ({"dropout": 0.5}, "an attention with dropout_p"),
    ],
)
def test_what_is_not_here_is_named(settings: dict[str, Any], named: str) -> None:
    values = (drawn(PLACES, ROWS, FEATURES),) * 3

    assert Attention(call_of(layer_of(settings), values)).unsupported() == named
    assert Attention(call_of(layer_of(), values)).unsupported() is None
