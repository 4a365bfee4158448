# SPDX-License-Identifier: Apache-2.0
"""A project as a contract: everything that its guarantee depends on, one digest, signatures.

The canonical form is JSON after RFC 8785, so a digest does not depend on who wrote the file. The
researcher signs the whole; a steward signs what concerns their own site (`site_digest`), so that
a change of another site's dataset does not void this site's yes, and every other change does.

Guarantees: two contracts with one digest are the same contract (SHA-256); a signature names role,
office, person, digest and conditions, and fits nothing else. Not here: whether the project in it
is what the arm really does (`adapters.office` rebuilds it), policy (`policy`).
Source: RFC 8785, RFC 8032.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, final

import msgspec
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from consilium.errors import AccessDenied, ConfigError, DataError
from consilium.governance.six_words import six_words
from consilium.wire import digest

LARGEST: Final = 1 << 20  # bytes
_Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4_000)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what stands in a contract; a field's name is its key in the JSON."""


@final
class Guarantee(_Part, frozen=True, kw_only=True):
    """The promise about one unit, at most, over all runs' steps together.

    Attributes:
        unit: Whose loss is bounded.
        neighbouring_relation: What neighbours differ by.
        epsilon: Of one run, against anyone who sees the model; rounded up.
        epsilon_participant: Of one run, against colluding sites too; rounded up.
        delta: Of both.
        accountant: Who computed them.
        steps: Most that one run is charged for.
    """

    unit: Literal["patient", "record"]
    neighbouring_relation: str
    epsilon: Annotated[float, msgspec.Meta(gt=0)]
    epsilon_participant: Annotated[float, msgspec.Meta(gt=0)]
    delta: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    accountant: str
    steps: _Count


@final
class BoundDataset(_Part, frozen=True, kw_only=True):
    """One site's dataset, as it must be found there.

    Attributes:
        dataset: Its name at that site.
        fingerprint: SHA-256, hexadecimal.
    """

    dataset: str
    fingerprint: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


@final
class Party(_Part, frozen=True, kw_only=True):
    """Somebody who takes part: `key` is Ed25519, hexadecimal."""

    name: _Text
    office: _Text
    key: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


@final
class Purpose(_Part, frozen=True, kw_only=True):
    """What for: plain words, an ethics reference, codes of the Data Use Ontology."""

    text: _Text
    ethics: str = ""
    codes: tuple[str, ...] = ()


@final
class Contract(_Part, frozen=True, kw_only=True):
    """All terms of a project.

    Attributes:
        version: Of this form.
        name: Of the project.
        kind: What leaves the sites.
        arm: How it trains.
        project: Every setting of the project file as that arm sees it, defaults included.
        guarantee: What is promised; None: nothing is.
        datasets: By site; their names are the participants.
        software: Versions that results depend on, by package.
        people: Who may use the results before they are released.
        purpose: What for.
        expires: UTC; no step is charged from then on.
        max_runs: How often it may be trained; each run has its own price.
    """

    version: Literal[1] = 1
    name: _Text
    kind: Literal["training", "query", "metric"] = "training"
    arm: str
    project: dict[str, object]
    guarantee: Guarantee | None
    datasets: dict[str, BoundDataset]
    software: dict[str, str]
    people: Annotated[tuple[Party, ...], msgspec.Meta(min_length=1)]
    purpose: Purpose
    expires: datetime
    max_runs: _Count = 1

    def __post_init__(self) -> None:
        if self.expires.tzinfo is None:
            raise ConfigError(f"contract {self.name!r}: {self.expires=}; expected UTC")
        if not self.datasets:
            raise ConfigError(f"contract {self.name!r} names no dataset; expected one or more")


@final
class Conditions(_Part, frozen=True, kw_only=True):
    """What a steward adds to a yes: tighter than the contract, or not at all."""

    expires: datetime | None = None
    max_runs: _Count | None = None
    reviewers: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    note: Annotated[str, msgspec.Meta(max_length=4_000)] = ""


# -- Bytes, digest, words -------------------------------------------------------------


def contract_bytes(contract: Contract) -> bytes:
    """Returns the only canonical form of `contract`.

    Raises:
        ConfigError: It holds a number that JSON cannot carry exactly.
    """
    return canonical(msgspec.to_builtins(contract))


def canonical(value: object) -> bytes:
    """Returns JSON after RFC 8785.

    Raises:
        ConfigError: A number or a text that JSON cannot carry exactly.

    >>> canonical({"b": 1.0, "a": [1e21, "\\u20ac"]}).decode()
    '{"a":[1e+21,"€"],"b":1}'
    """
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]  # its own type is of plain dicts
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise ConfigError(f"no canonical JSON: {error}; expected finite, exact numbers") from None


def read_contract(data: bytes) -> Contract:
    """Returns the contract in `data`.

    Raises:
        DataError: Too large, not a contract, or not in canonical form.
    """
    if len(data) > LARGEST:
        raise DataError(f"a contract of {len(data)} bytes; expected at most {LARGEST}")
    try:
        contract = msgspec.json.decode(data, type=Contract)
    except (msgspec.MsgspecError, ConfigError, UnicodeDecodeError) as error:
        raise DataError(f"no contract: {error}; export it again") from None
    if contract_bytes(contract) != data:
        raise DataError("the contract is not in canonical form (RFC 8785); export it again")
    return contract


def contract_digest(contract: Contract) -> bytes:
    """Returns the 32 bytes that stand for the whole contract."""
    return digest("contract", contract_bytes(contract))


def site_digest(contract: Contract, site: str) -> bytes:
    """Returns the 32 bytes that stand for what concerns `site`.

    Of the other sites' datasets that is only that they take part.

    Raises:
        ConfigError: The site does not take part.
    """
    if site not in contract.datasets:
        raise ConfigError(
            f"site {site!r} has no dataset in contract {contract.name!r}; expected one of "
            f"{', '.join(sorted(contract.datasets))}"
        )
    seen = msgspec.to_builtins(contract)
    seen["datasets"] = {name: own if name == site else {} for name, own in seen["datasets"].items()}
    return digest("contract at site", site, canonical(seen))


def fingerprint(contract: Contract) -> str:
    """Returns six words for the contract, to compare with the other sites."""
    return six_words(contract_digest(contract))


# -- Signatures -----------------------------------------------------------------------


class SignerRole(StrEnum):
    """As what somebody signs."""

    RESEARCHER = "researcher"
    STEWARD = "steward"


class Verdict(StrEnum):
    """What somebody says of a contract."""

    APPROVE = "approve"  # a researcher: this is what I ask for
    ASK = "ask"
    REFUSE = "refuse"
    REVOKE = "revoke"


@final
class Signature(_Part, frozen=True, kw_only=True):
    """A word on a contract, signed; binary values are hexadecimal.

    Attributes:
        role: As what.
        office: Of the signer; for a steward, the site that speaks.
        person: Who decided, for people.
        key: Ed25519 public key of the office, or the researcher's own.
        verdict: What is said.
        words: The question, the answer or the reason.
        conditions: Of a yes.
        time: UTC.
        signature: Of all of this and the digest.
    """

    role: SignerRole
    office: _Text
    person: _Text
    key: str = ""
    verdict: Verdict = Verdict.APPROVE
    words: Annotated[str, msgspec.Meta(max_length=4_000)] = ""
    conditions: Conditions = Conditions()
    time: datetime
    signature: str = ""


def sign(contract: Contract, claim: Signature, private_key: bytes) -> Signature:
    """Returns `claim` with the key and the signature filled in."""
    signer = Ed25519PrivateKey.from_private_bytes(private_key)
    key = signer.public_key().public_bytes_raw().hex()
    claimed = msgspec.structs.replace(claim, key=key, signature="")
    text = _signed_text(contract, claimed)
    return msgspec.structs.replace(claimed, signature=signer.sign(text).hex())


def check_signature(contract: Contract, signature: Signature, key: bytes) -> None:
    """Refuses a signature that `key` did not make for this contract.

    Raises:
        AccessDenied: It is another's, or of another contract.
    """
    text = _signed_text(contract, msgspec.structs.replace(signature, signature=""))
    try:
        forged = signature.key != key.hex()
        Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(signature.signature), text)
    except (InvalidSignature, ValueError):
        forged = True
    if forged:
        raise AccessDenied(
            f"the signature of {signature.person!r} ({signature.role}, {signature.office}) is not "
            f"theirs for contract {contract.name!r}; expected one by the key that this office "
            "knows, over exactly this contract: compare the six words"
        )


def _signed_text(contract: Contract, claim: Signature) -> bytes:
    of = (
        contract_digest(contract)
        if claim.role is SignerRole.RESEARCHER
        else site_digest(contract, claim.office)
    )
    return digest("contract signature", of, canonical(msgspec.to_builtins(claim)))


# -- Difference -----------------------------------------------------------------------


def difference(before: Contract, after: Contract) -> str:
    """Returns what changed, one setting a line, as `path: before -> after`; empty: nothing."""
    return values_difference(msgspec.to_builtins(before), msgspec.to_builtins(after))


def values_difference(before: object, after: object) -> str:
    """Returns what differs between two values of JSON, one leaf a line, by path."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    lines = []
    for path in sorted(old.keys() | new.keys()):
        was, now = old.get(path, "(nothing)"), new.get(path, "(nothing)")
        if was != now:
            lines.append(f"{path}: {was} -> {now}")
    return "\n".join(lines)


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and value:
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{place}]")
    else:
        yield path, canonical(value).decode()
