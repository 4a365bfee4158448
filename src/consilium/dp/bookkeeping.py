# SPDX-License-Identifier: Apache-2.0
"""The clipped sum of a microbatch of patients by one forward and one backward pass.

The backward pass makes no weight gradient of the whole batch. For each layer it enters every
patient's part of the squared norm, in the cheapest of three forms (`book`); when all parts
are in, each layer adds its patients up with their clip factors. How many patients share a
microbatch follows from the largest map of one record, found by a pass without data: fewer
microbatches are faster, and hold more.

Not here: patients whose gradient overflows, and models with parts that have no rule. The
caller gives those to `per_patient`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

from consilium.dp.clip_kinds import Clip
from consilium.dp.norm_book import Budget, NormBook, Unrouted
from consilium.dp.per_patient import Chunk, Objective
from consilium.dp.routing import Router
from consilium.dp.sums import Sums

_UNKNOWN: Final = 8  # records in a microbatch where the largest map could not be found


def booked(objective: Objective, chunk: Chunk, sums: Sums, *, clip: Clip, budget: Budget) -> bool:
    """Adds each patient's gradient, clipped; or adds nothing and returns False.

    False: some patient's gradient, or the square of its norm, is not finite.

    Raises:
        Unrouted: A trained parameter is used in a way that has no rule; nothing was added.
    """
    trained = objective.trained()
    book = NormBook(trained, len(chunk.labels), budget)
    router = Router(book)
    with torch.enable_grad():
        with router:
            losses = vmap(objective)(chunk.inputs, chunk.labels, chunk.weights)
        if losses.requires_grad:
            wanted = [book.anchor, *trained]
            _, *left = torch.autograd.grad(losses.sum(), wanted, allow_unused=True)
            for parameter, gradient in zip(trained, left, strict=True):
                if gradient is not None:
                    raise Unrouted(f"{book.named(parameter)} is used by {router.user(parameter)}")
    with torch.no_grad():
        return book.settle(sums, clip, chunk.present)


# -- How many patients at once --------------------------------------------------------


_largest: Final[WeakKeyDictionary[nn.Module, dict[object, int | None]]] = WeakKeyDictionary()
# What `_largest_map` found, by model and shape of a record: it decides on speed, and no result.


def records_at_once(objective: Objective, inputs: Tensor, budget: Budget) -> int:
    """Returns how many records a microbatch takes, for inputs (n, *shape) with n > 0."""
    if budget.records is not None:
        return budget.records
    known = _largest.setdefault(objective.model, {})
    shape = inputs.shape[1:]
    if shape not in known:
        known[shape] = _largest_map(objective, inputs[:1])
    largest = known[shape]
    return _UNKNOWN if largest is None else max(1, budget.map_bytes // max(1, largest))


def _largest_map(objective: Objective, inputs: Tensor) -> int | None:
    """Returns the bytes of the largest value that one record makes; None if that needs data."""
    model = objective.model
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shapes = {name: torch.empty_like(value, device="meta") for name, value in state.items()}
    sizes = _Sizes()
    try:
        with torch.no_grad(), sizes:
            functional_call(model, shapes, (torch.empty_like(inputs, device="meta"),))
    except (NotImplementedError, RuntimeError):
        return None
    return sizes.largest


@final
class _Sizes(TorchFunctionMode):
    """While active in a thread, notes the largest tensor that a function of torch returns."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Returns what `func` returns."""
        del types
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.nbytes)
        return result
