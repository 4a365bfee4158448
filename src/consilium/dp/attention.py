# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention in terms of linear layers, which is what book-keeping has a rule for.

torch computes it in one function, in which the uses of its four weights cannot be told apart.
Here they are four calls of `linear`, and what lies between has no parameters.

Not here: attention with dropout, with trained or zero keys of its own, or over given keys.
Source: Vaswani et al. 2017, section 3.2.2 (arXiv:1706.03762v7).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor


@final
@dataclass(frozen=True, slots=True)
class Attention:
    """One call of `torch.nn.functional.multi_head_attention_forward`, by its names."""

    given: Mapping[str, object]

    def unsupported(self) -> str | None:
        """Returns what is asked for and is not here, or None."""
        names = ["bias_k", "bias_v", "static_k", "static_v"]
        asked = [name for name in names if self.given.get(name) is not None]
        if self.given.get("add_zero_attn"):
            asked.append("add_zero_attn")
        if self.given.get("dropout_p") and self.given.get("training", True):
            asked.append("dropout_p")
        return f"an attention with {', '.join(asked)}" if asked else None

    def __call__(self) -> tuple[Tensor, Tensor | None]:
        """Returns outputs (places, rows, features), and the weights if they were asked for.

        Inputs without an axis of rows give outputs without one.
        """
        single = self._tensor("query").dim() == 2
        query, key, value = (self._projected(name, single) for name in ("query", "key", "value"))
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        mask = self._mask(scores.shape, scores.dtype)
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        mixed = (weights @ value).permute(2, 0, 1, 3).flatten(2)
        outputs = F.linear(mixed, self._tensor("out_proj_weight"), self._maybe("out_proj_bias"))
        shown = self._shown(weights)
        if single:
            return outputs.squeeze(1), None if shown is None else shown.squeeze(0)
        return outputs, shown

    def _tensor(self, name: str) -> Tensor:
        return cast("Tensor", self.given[name])

    def _maybe(self, name: str) -> Tensor | None:
        return cast("Tensor | None", self.given.get(name))

    def _projected(self, name: str, single: bool) -> Tensor:
        """Returns the projection of query, key or value: (rows, heads, places, features)."""
        place = ("query", "key", "value").index(name)
        if self.given.get("use_separate_proj_weight"):
            weight = self._tensor(f"{name[0]}_proj_weight")
        else:
            weight = self._tensor("in_proj_weight").chunk(3)[place]
        whole = self._maybe("in_proj_bias")
        bias = None if whole is None else whole.chunk(3)[place]
        inputs = self._tensor(name)
        made = F.linear(inputs.unsqueeze(1) if single else inputs, weight, bias)
        heads = cast("int", self.given["num_heads"])
        return made.view(*made.shape[:2], heads, -1).permute(1, 2, 0, 3)

    def _mask(self, shape: torch.Size, dtype: torch.dtype) -> Tensor | None:
        """Returns what is added to scores (rows, heads, places, keys), if anything is."""
        total = None
        mask, padding = self._maybe("attn_mask"), self._maybe("key_padding_mask")
        if mask is not None:
            total = _added(mask, dtype).view(shape if mask.dim() == 3 else (1, 1, *shape[2:]))
        if padding is not None:
            hidden = _added(padding, dtype).view(shape[0], 1, 1, shape[3])
            total = hidden if total is None else total + hidden
        return total

    def _shown(self, weights: Tensor) -> Tensor | None:
        if not self.given.get("need_weights", True):
            return None
        return weights.mean(1) if self.given.get("average_attn_weights", True) else weights


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a mask as values to add: minus infinity where a boolean one is true."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)
