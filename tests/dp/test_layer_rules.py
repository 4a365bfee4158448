# SPDX-License-Identifier: Apache-2.0
"""Tests of the weight gradients of single layers: three forms of the same, and their doubt."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from consilium.dp.layer_rules import Convolution, LookUp, Product, Rule, squared_norms

torch.set_num_threads(1)

Case = tuple[Rule, Tensor, Tensor, Tensor]
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).norm() <= 1e-12 * (1 + expected.norm()))


@st.composite
def convolutions(draw: st.DrawFn) -> Case:
    """A convolution, forward or transposed, its inputs (patients, rows, ...), and gradients."""
    torch.manual_seed(draw(st.integers(0, 999)))
    count, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    transposed = draw(st.booleans())

    def sides(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(count))

    stride = sides(1, 3)
    rule = Convolution(
        stride=stride,
        padding=sides(0, 2),
        dilation=sides(1, 2),
        output_padding=tuple(step - 1 for step in stride) if transposed else (0,) * count,
        groups=groups,
        transposed=transposed,
    )
    width, filters = 2 * groups, groups * draw(st.integers(1, 2))
    shape = (width, filters // groups) if transposed else (filters, width // groups)
    weight = torch.randn(*shape, *sides(1, 3), dtype=torch.float64)
    lengths = tuple((9, 5, 3)[count - 1] + extra for extra in sides(0, 2))
    rows = draw(st.integers(1, 2))
    inputs = torch.randn(3, rows, width, *lengths, dtype=torch.float64)
    try:
        made = rule.forward(inputs.flatten(0, 1), weight, None)
    except RuntimeError:
        assume(False)
        raise
    outputs = torch.randn_like(made).view(3, rows, *made.shape[1:])
    return rule, inputs, outputs, weight


def expected_gradients(
    rule: Convolution, inputs: Tensor, outputs: Tensor, weight: Tensor
) -> Tensor:
    """Autograd, one patient at a time."""
    found = []
    for left, right in zip(inputs, outputs, strict=True):
        leaf = weight.clone().requires_grad_()
        made = rule.forward(left, leaf, None)
        found.append(torch.autograd.grad((made * right).sum(), leaf)[0])
    return torch.stack(found)


@settings(max_examples=80, deadline=None)
@given(convolutions())
def test_three_forms_of_a_convolution_are_the_same(case: Case) -> None:
    rule, inputs, outputs, weight = case
    assert isinstance(rule, Convolution)
    by = torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64)

    gradients = torch.cat([*rule.gradients(inputs, outputs, weight)])
    squares, doubt = rule.squares(inputs, outputs, weight)
    weighted = rule.weighted(inputs, outputs, weight, by)

    assert close(gradients, expected_gradients(rule, inputs, outputs, weight))
    assert close(squares, gradients.flatten(1).square().sum(1))
    assert close(weighted, torch.tensordot(by, gradients, 1))
    assert (doubt >= squares * (1 - 1e-12)).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 4), max_size=2), st.integers(0, 99))
def test_three_forms_of_a_product_are_the_same(places: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    inputs = torch.randn(3, *places, 4, dtype=torch.float64)
    outputs = torch.randn(3, *places, 5, dtype=torch.float64)
    weight, by = torch.randn(5, 4, dtype=torch.float64), torch.rand(3, dtype=torch.float64)

    gradients = torch.cat([*Product().gradients(inputs, outputs, weight)])
    squares, doubt = Product().squares(inputs, outputs, weight)

    flat = outputs.reshape(3, -1, 5), inputs.reshape(3, -1, 4)
    assert close(gradients, torch.einsum("uto,uti->uoi", *flat))
    assert (squares - gradients.flatten(1).square().sum(1)).abs().max() <= 1e-6 * squares.max()
    assert close(Product().weighted(inputs, outputs, weight, by), torch.tensordot(by, gradients, 1))
    assert (doubt >= squares * (1 - 1e-12)).all()


@pytest.mark.parametrize("padding", [None, 0, 2])
def test_three_forms_of_a_look_up_are_the_same(padding: int | None) -> None:
    torch.manual_seed(0)
    rule, inputs = LookUp(padding), torch.randint(0, 4, (3, 2, 6))
    outputs = torch.randn(3, 2, 6, 5, dtype=torch.float64)
    weight, by = torch.randn(4, 5, dtype=torch.float64), torch.rand(3, dtype=torch.float64)

    gradients = torch.cat([*rule.gradients(inputs, outputs, weight)])
    squares, doubt = rule.squares(inputs, outputs, weight)

    assert close(squares, gradients.flatten(1).square().sum(1))
    assert close(rule.weighted(inputs, outputs, weight, by), torch.tensordot(by, gradients, 1))
    assert (doubt >= squares * (1 - 1e-12)).all()
    assert padding is None or not gradients[:, padding].any()


def test_doubt_does_not_cancel_where_gradients_do() -> None:
    inputs = torch.ones(1, 2, 1)
    outputs = torch.tensor([[[1.0], [-1.0]]])

    squares, doubt = Product().squares(inputs, outputs, torch.ones(1, 1))

    assert squares.item() == 0
    assert doubt.item() == pytest.approx(4)


@pytest.mark.parametrize("values", [1, 4095, 4096, 4097, 100_001])
def test_squared_norms_are_accurate_for_any_number_of_values(values: int) -> None:
    torch.manual_seed(0)
    rows = torch.randn(3, values)

    found = squared_norms(rows)

    torch.testing.assert_close(found, rows.double().square().sum(1), rtol=1e-6, atol=0)


def test_a_square_that_overflows_is_not_finite() -> None:
    assert not squared_norms(torch.full((1, 5), 1e30)).isfinite().any()
