# SPDX-License-Identifier: Apache-2.0
"""Programs that would show something, or ask for unbounded memory, are refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.inference.programs import every_step

from consilium.errors import ConfigError
from consilium.inference.program import (
    Add,
    Convolve,
    Kind,
    Open,
    Pad,
    Positive,
    Program,
    Slice,
    Step,
    Sum,
    Truncate,
    WeightShape,
    check_program,
)

KERNEL = WeightShape(1, 1, 2, 2)


def program(*steps: Step, weights: tuple[WeightShape, ...] = (KERNEL,)) -> Program:
    return Program(
        ring_bits=40, image=(4, 4, 2), image_fraction=8, weights=weights, steps=steps, unit=1.0
    )


def test_the_image_is_convolved_under_its_mask_only() -> None:
    with pytest.raises(ConfigError, match="step 0, Convolve, does not fit"):
        check_program(program(Convolve(0, weight=0)))

    assert check_program(program(Open(0), Convolve(1, weight=0)))[-1].kind is Kind.WIDE


@pytest.mark.parametrize(
    "steps",
    [
        (Open(0),),
        (Truncate(0, 4),),
        (Open(0), Open(1)),
        (Open(0), Truncate(1, 4)),
        (Open(0), Pad(1, 1, 1)),
        (Positive(0),),
        (Truncate(0, 4), Open(1)),
        (Open(0), Convolve(1, weight=1)),
        (Open(0), Convolve(1, weight=0, stride=0)),
        (Slice(0, 0, 0, 1, 5),),
        (Slice(0, 0, 0, 0, 2),),
        (Add(0, 1),),
        (Add(0, 0, left_shift=40),),
        (Sum(0, (3,), (0,), 2, 1),),
    ],
    ids=str,
)
def test_what_cannot_be_carried_out_is_refused(steps: tuple[Step, ...]) -> None:
    with pytest.raises(ConfigError):
        check_program(program(*steps))


def test_programs_have_a_bounded_size() -> None:
    wide = WeightShape(1, 1, 2, 1 << 24)
    steps = (Open(0), Convolve(1, weight=0))

    with pytest.raises(ConfigError, match="or the program too large"):
        check_program(program(*steps, weights=(wide,)))
    with pytest.raises(ConfigError, match="more than 268435456 weights"):
        check_program(program(*steps, weights=(WeightShape(1, 1, 2, 1 << 28),)))


WHOLE = every_step()
NUMBERS = st.integers(-3, 70)


@given(st.data())
def test_no_changed_program_breaks_the_check(data: st.DataObject) -> None:
    """It is refused by name, or it has values of known shapes; nothing else is raised."""
    at = data.draw(st.integers(0, len(WHOLE.steps) - 1))
    step = WHOLE.steps[at]
    fields = [one for one in step.__struct_fields__ if isinstance(getattr(step, one), int)]
    changed = msgspec.structs.replace(step, **{one: data.draw(NUMBERS) for one in fields})
    steps = (*WHOLE.steps[:at], changed, *WHOLE.steps[at + 1 :])

    try:
        values = check_program(msgspec.structs.replace(WHOLE, steps=steps))
    except ConfigError:
        return
    assert all(min(one.shape) >= 1 for one in values)
