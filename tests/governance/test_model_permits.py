# SPDX-License-Identifier: Apache-2.0
"""Uses of a model: the whole table, and the owner's signed word on it."""

from datetime import UTC, datetime
from itertools import chain, combinations
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.errors import AccessDenied, ConfigError, DataError
from consilium.governance.model_permissions import (
    WORDS,
    ModelPermissions,
    Use,
    decide_use,
    permissions_of,
)
from consilium.governance.model_permits import (
    Permit,
    Signer,
    encode_permit,
    may_use_under,
    read_permit,
    require,
    sign_permit,
)

OWNER: Final = Signer("charite", bytes(32))
OTHER: Final = Signer("charite", bytes([1] * 32))
BY_HAND: Final = {  # of a private model, word by word: what it opens
    "download": {Use.DOWNLOAD},
    "device": {Use.DEVICE, Use.ENCRYPTED_INFERENCE},
    "remote-inference": {Use.REMOTE_INFERENCE, Use.ENCRYPTED_INFERENCE},
    "encrypted-only": {Use.ENCRYPTED_INFERENCE},
}
OPEN: Final = [word for word in WORDS if word != "encrypted-only"]
COMBINATIONS: Final = [
    ("encrypted-only",),
    *chain.from_iterable(combinations(OPEN, size) for size in range(len(OPEN) + 1)),
]


def permit(*words: str, epsilon: float | None = 1.9) -> Permit:
    claim = Permit(
        model="heart",
        version=3,
        weights="ab" * 32,
        epsilon=epsilon,
        delta=1e-5,
        permissions=permissions_of(words),
        issued=datetime(2026, 11, 22, tzinfo=UTC),
        publisher=OWNER.publisher,
    )
    return sign_permit(claim, OWNER)


# -- The table --------------------------------------------------------------------------


def test_every_word_is_in_the_table() -> None:
    assert set(BY_HAND) == set(WORDS)


@pytest.mark.parametrize("use", Use)
@pytest.mark.parametrize("words", COMBINATIONS, ids=" ".join)
def test_a_private_model_may_be_used_as_its_words_say(words: tuple[str, ...], use: Use) -> None:
    expected = any(use in BY_HAND[word] for word in words)

    assert decide_use(permissions_of(words), use, private=True).allowed is expected
    assert may_use_under(permit(*words), use).allowed is expected


@pytest.mark.parametrize("use", Use)
@pytest.mark.parametrize("words", COMBINATIONS, ids=" ".join)
def test_a_model_without_a_guarantee_is_asked_encrypted_at_most(
    words: tuple[str, ...], use: Use
) -> None:
    hidden = use is Use.ENCRYPTED_INFERENCE
    expected = hidden and any(use in BY_HAND[word] for word in words)

    assert decide_use(permissions_of(words), use, private=False).allowed is expected
    assert may_use_under(permit(*words, epsilon=None), use).allowed is expected


@pytest.mark.parametrize("words", COMBINATIONS, ids=" ".join)
def test_words_come_back(words: tuple[str, ...]) -> None:
    assert permissions_of(words).words() == words


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(ConfigError, match="permission 'all'; expected some of download, device"):
        permissions_of(["all"])


@pytest.mark.parametrize("word", OPEN)
def test_a_way_around_encrypted_only_cannot_be_said(word: str) -> None:
    with pytest.raises(ConfigError, match="expected it alone"):
        permissions_of([word, "encrypted-only"])


def test_a_refusal_names_who_decides() -> None:
    words = "asked for device, and its owner 'charite' allows encrypted-only: ask them"

    with pytest.raises(AccessDenied, match=words):
        require(permit("encrypted-only"), Use.DEVICE)
    require(permit("encrypted-only"), Use.DEVICE, Use.ENCRYPTED_INFERENCE)


# -- Signatures -------------------------------------------------------------------------


@given(st.sampled_from(COMBINATIONS), st.one_of(st.none(), st.floats(0, 1e6)))
def test_a_permit_is_read_as_it_was_signed(words: tuple[str, ...], epsilon: float | None) -> None:
    made = permit(*words, epsilon=epsilon)

    assert read_permit(encode_permit(made)) == made


@pytest.mark.parametrize(
    "change",
    [
        {"model": "lung"},
        {"version": 4},
        {"weights": "00" * 32},
        {"epsilon": 0.5},
        {"delta": None},
        {"permissions": ModelPermissions(allow_device=True, allow_download=True)},
        {"issued": datetime(2027, 1, 1, tzinfo=UTC)},
        {"publisher": OTHER.publisher},
        {"publisher": msgspec.structs.replace(OWNER.publisher, name="lmu")},
        {"publisher": msgspec.structs.replace(OWNER.publisher, key="ff" * 32)},
        {"signature": ""},
        {"signature": "00" * 64},
        {"signature": "no hexadecimal"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_permit_is_refused(change: dict[str, object]) -> None:
    changed = msgspec.structs.replace(permit("device"), **change)

    with pytest.raises(AccessDenied, match=r"the permit of model .* is not as .* signed it"):
        read_permit(encode_permit(changed))


def test_who_widens_a_permit_has_other_words() -> None:
    wide = msgspec.structs.replace(permit("device"), permissions=permissions_of(["download"]))

    forged = read_permit(encode_permit(sign_permit(wide, OTHER)))

    assert forged.publisher.name == "charite"
    assert forged.publisher.words() != OWNER.publisher.words()


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"\xff", encode_permit(permit())[:-3], b'{"format": "consilium-permit/2"}'],
)
def test_what_is_no_permit_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="no permit"):
        read_permit(data)


def test_a_permit_of_any_size_is_not_read() -> None:
    with pytest.raises(DataError, match="expected at most"):
        read_permit(encode_permit(permit()) + b" " * (1 << 14))


def test_a_signer_does_not_print() -> None:
    assert bytes(32).hex() not in f"{OWNER!r}{vars(type(OWNER))}"
