# SPDX-License-Identifier: Apache-2.0
"""The key schedule: both sides of a pair agree, and no two purposes share bytes."""

import pytest
from tests.secagg.conftest import MODEL, secret

from consilium.secagg import keys, shamir
from consilium.secagg.messages import Plan

CHAIN = keys.first_chain(secret("shared"), secret("session"), 0, 1)
DIGEST = keys.plan_digest(secret("session"), Plan(1, (0, 1, 2), MODEL))


def test_both_sides_agree() -> None:
    first, second = secret("a"), secret("b")

    assert keys.agree(first, keys.public_key(second)) == keys.agree(second, keys.public_key(first))


def test_both_sides_start_the_same_chain() -> None:
    assert keys.first_chain(secret("shared"), secret("session"), 1, 0) == CHAIN


def test_a_hybrid_secret_needs_both_secrets() -> None:
    both = keys.hybrid_secret(secret("x25519"), secret("ml-kem"))

    others = {
        keys.hybrid_secret(secret("x25519"), secret("other")),
        keys.hybrid_secret(secret("other"), secret("ml-kem")),
        keys.hybrid_secret(secret("ml-kem"), secret("x25519")),
        secret("x25519"),
        secret("ml-kem"),
    }
    assert both not in others
    assert len(others) == 5


def test_every_purpose_has_its_own_bytes() -> None:
    made = [
        CHAIN[:32],
        keys.advance({1: CHAIN}, 1)[1][:32],
        keys.advance({1: CHAIN}, 2)[1][:32],
        keys.root(CHAIN),
        keys.pair_mask(keys.root(CHAIN), DIGEST),
        keys.self_mask(7, DIGEST),
        keys.fresh(CHAIN, "seal"),
        keys.hybrid_secret(CHAIN, CHAIN),
        *shamir.rows(
            shamir.pack(
                [
                    keys.share_pad(CHAIN, "self", 0),
                    keys.share_pad(CHAIN, "self", 1),
                    keys.share_pad(CHAIN, "pair", 0),
                    keys.gate_pad(CHAIN, DIGEST, 0),
                    keys.gate_pad(CHAIN, DIGEST, 1),
                    keys.fresh_element(CHAIN, "seal"),
                ]
            )
        ),
    ]

    assert len(set(made)) == len(made)


@pytest.mark.parametrize(
    ("session", "plan"),
    [
        (secret("other"), Plan(1, (0, 1, 2), MODEL)),
        (secret("session"), Plan(2, (0, 1, 2), MODEL)),
        (secret("session"), Plan(1, (0, 1, 3), MODEL)),
        (secret("session"), Plan(1, (0, 1, 2), bytes(32))),
    ],
    ids=["session", "round", "members", "model"],
)
def test_every_part_of_a_plan_is_in_its_digest(session: bytes, plan: Plan) -> None:
    assert keys.plan_digest(session, plan) != DIGEST


def test_the_plan_is_in_every_mask_key() -> None:
    assert keys.self_mask(7, DIGEST) != keys.self_mask(7, MODEL)
    assert keys.pair_mask(MODEL, DIGEST) != keys.pair_mask(MODEL, MODEL)


def test_plan_and_survivors_are_in_the_digest_of_an_opening() -> None:
    made = {
        keys.opening_digest(plan, sites) for plan in (DIGEST, MODEL) for sites in ((0, 1), (0, 2))
    }

    assert len(made) == 4


def test_envelope_and_seal_of_one_secret_have_different_keys() -> None:
    sealed = [cipher(7).encrypt(keys.ONE_NONCE, b"", None) for cipher in (keys.envelope, keys.seal)]

    assert sealed[0] != sealed[1]


def test_a_key_that_forces_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match="shared"):
        keys.agree(secret("a"), bytes(32))
