# SPDX-License-Identifier: Apache-2.0
"""Contracts: canonical form, digests, signatures, differences, and the policy that meets them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from consilium.errors import AccessDenied, ConfigError, DataError
from consilium.governance.contract import (
    BoundDataset,
    Conditions,
    Contract,
    Guarantee,
    Party,
    Purpose,
    Signature,
    SignerRole,
    _signed_text,
    canonical,
    check_signature,
    contract_bytes,
    contract_digest,
    difference,
    fingerprint,
    read_contract,
    sign,
    site_digest,
)
from consilium.governance.policy import PRESETS, Policy, check_policy, refusals
from consilium.governance.six_words import six_words

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/contracts.json").read_text())
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = bytes(range(32))
PUBLIC = Ed25519PrivateKey.from_private_bytes(KEY).public_key().public_bytes_raw()
GUARANTEE = Guarantee(
    unit="patient",
    neighbouring_relation="ADD_OR_REMOVE_ONE",
    epsilon=1.9,
    epsilon_participant=2.4,
    delta=1e-5,
    accountant="pld",
    steps=30,
)


def make_contract(**changes: object) -> Contract:
    plain = Contract(
        name="pneumonia",
        arm="federated-dp",
        project={"sites": {"count": 3, "secure_sum": "on"}, "training": {"rounds": 30}},
        guarantee=GUARANTEE,
        datasets={
            site: BoundDataset(dataset="cxr", fingerprint=f"{k}" * 64)
            for k, site in enumerate(("charite", "lmu", "tum"))
        },
        software={"consilium": "0.1.0"},
        people=(Party(name="Rossi", office="centre", key="ab" * 32),),
        purpose=Purpose(text="Find pneumonia"),
        expires=NOW + timedelta(days=90),
    )
    return msgspec.structs.replace(plain, **changes)


# -- Canonical form ---------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["rfc8785"], ids=lambda one: one["name"])
def test_canonical_json_is_that_of_the_rfc(vector: dict[str, str]) -> None:
    assert canonical(json.loads(vector["input"])).hex() == vector["output_hex"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53 + 1, "\ud800"])
def test_what_json_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(ConfigError):
        canonical({"x": value})


@pytest.mark.parametrize("vector", VECTORS["contracts"], ids=lambda one: one["name"])
def test_digests_do_not_move(vector: dict[str, str]) -> None:
    contract = read_contract(vector["contract"].encode())

    assert contract_digest(contract).hex() == vector["digest"]
    assert site_digest(contract, "tum").hex() == vector["tum"]
    assert fingerprint(contract) == vector["words"]


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda one: one["name"])
def test_what_is_no_contract_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(DataError):
        read_contract(vector["contract"].encode())


def test_a_contract_comes_back_as_it_was() -> None:
    assert read_contract(contract_bytes(make_contract())) == make_contract()


LEAVES = [
    {"arm": "federated"},
    {"project": {"sites": {"count": 3}, "training": {"rounds": 31}}},
    {"guarantee": None},
    {"guarantee": msgspec.structs.replace(GUARANTEE, delta=1e-4)},
    {"software": {"consilium": "0.2.0"}},
    {"people": (Party(name="Bianchi", office="centre", key="ab" * 32),)},
    {"purpose": Purpose(text="Sell them")},
    {"expires": NOW + timedelta(days=91)},
    {"max_runs": 2},
    {"name": "other"},
    {"kind": "query"},
]


@pytest.mark.parametrize("change", LEAVES, ids=lambda one: next(iter(one)))
def test_every_term_is_in_both_digests(change: dict[str, object]) -> None:
    before, after = make_contract(), make_contract(**change)

    assert contract_digest(before) != contract_digest(after)
    assert site_digest(before, "tum") != site_digest(after, "tum")
    assert difference(before, after)


def test_another_sites_dataset_is_not_this_sites_term() -> None:
    moved = make_contract().datasets | {"lmu": BoundDataset(dataset="cxr", fingerprint="f" * 64)}
    before, after = make_contract(), make_contract(datasets=moved)

    assert site_digest(before, "tum") == site_digest(after, "tum")
    assert site_digest(before, "lmu") != site_digest(after, "lmu")
    assert contract_digest(before) != contract_digest(after)


def test_who_takes_part_is_everybodys_term() -> None:
    fewer = {name: one for name, one in make_contract().datasets.items() if name != "lmu"}

    assert site_digest(make_contract(), "tum") != site_digest(make_contract(datasets=fewer), "tum")


def test_a_difference_is_one_setting_a_line() -> None:
    after = make_contract(arm="federated", max_runs=2)

    assert difference(make_contract(), after).splitlines() == [
        'arm: "federated-dp" -> "federated"',
        "max_runs: 1 -> 2",
    ]


# -- Signatures -------------------------------------------------------------------------


def signed(role: SignerRole = SignerRole.STEWARD, office: str = "tum") -> Signature:
    claim = Signature(role=role, office=office, person="Weber", time=NOW)
    return sign(make_contract(), claim, KEY)


@pytest.mark.parametrize("role", SignerRole)
def test_a_true_signature_passes(role: SignerRole) -> None:
    check_signature(make_contract(), signed(role), PUBLIC)


@pytest.mark.parametrize(
    "change",
    [
        {"person": "Rossi"},
        {"office": "lmu"},
        {"role": SignerRole.RESEARCHER},
        {"time": NOW + timedelta(seconds=1)},
        {"conditions": Conditions(max_runs=9)},
        {"words": "and more"},
        {"key": "00" * 32},
        {"signature": "00" * 64},
        {"signature": "not hexadecimal"},
    ],
    ids=lambda one: next(iter(one)),
)
def test_a_signature_fits_nothing_else(change: dict[str, object]) -> None:
    with pytest.raises(AccessDenied, match="is not theirs"):
        check_signature(make_contract(), msgspec.structs.replace(signed(), **change), PUBLIC)


def test_a_signature_of_other_terms_or_another_key_is_refused() -> None:
    with pytest.raises(AccessDenied):
        check_signature(make_contract(max_runs=2), signed(), PUBLIC)
    with pytest.raises(AccessDenied):
        check_signature(make_contract(), signed(), bytes(32))


def test_a_signature_that_names_the_key_of_somebody_else_is_refused() -> None:
    named = msgspec.structs.replace(signed(), key="ab" * 32, signature="")
    text = _signed_text(make_contract(), named)
    made = Ed25519PrivateKey.from_private_bytes(KEY).sign(text).hex()

    with pytest.raises(AccessDenied, match="is not theirs"):
        check_signature(make_contract(), msgspec.structs.replace(named, signature=made), PUBLIC)


# -- Policy -----------------------------------------------------------------------------


def test_what_is_within_the_policy_passes() -> None:
    assert refusals(PRESETS["standard"], make_contract(), NOW) == ()
    check_policy(PRESETS["standard"], make_contract(), NOW)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"guarantee": None}, "differential privacy is off"),
        ({"arm": "federated"}, "arm federated"),
        ({"guarantee": msgspec.structs.replace(GUARANTEE, epsilon=9.0)}, "epsilon 9"),
        ({"guarantee": msgspec.structs.replace(GUARANTEE, epsilon_participant=9.0)}, "epsilon 9"),
        ({"guarantee": msgspec.structs.replace(GUARANTEE, delta=0.01)}, "delta 0.01"),
        ({"datasets": {"tum": BoundDataset(dataset="c", fingerprint="0" * 64)}}, "1 sites"),
        ({"expires": NOW}, "expired"),
        ({"expires": NOW + timedelta(days=366)}, "at most 365 days"),
        ({"max_runs": 11}, "11 runs"),
        ({"project": {}}, "the secure sum is off"),
        ({"project": {"sites": {"secure_sum": "off"}}}, "the secure sum is off"),
    ],
)
def test_what_is_against_the_policy_is_named(change: dict[str, object], words: str) -> None:
    assert words in "; ".join(refusals(PRESETS["standard"], make_contract(**change), NOW))
    with pytest.raises(AccessDenied, match="against this office's policy"):
        check_policy(PRESETS["standard"], make_contract(**change), NOW)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda one: one.preset)
def test_no_preset_takes_a_contract_without_a_guarantee(preset: Policy) -> None:
    assert refusals(preset, make_contract(guarantee=None, arm="federated"), NOW)


# -- Six words --------------------------------------------------------------------------


@given(st.binary(min_size=12, max_size=12), st.binary(min_size=12, max_size=12))
def test_six_words_are_another_spelling_of_96_bits(one: bytes, other: bytes) -> None:
    assert (six_words(one) == six_words(other)) == (one == other)
    assert len(six_words(one).split()) == 6
