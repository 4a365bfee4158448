# SPDX-License-Identifier: Apache-2.0
"""The key schedule: every key and pad of the secure sum, each with its own purpose.

    secret of a site ── X25519 with each peer ── chain, one for each pair and one with itself
                     └─ ML-KEM with each peer ─┘  where the job is post-quantum
    chain ── "next" ─> chain of the next round          (one way: the past cannot be computed)
    chain ── "root" ─> root ── plan ─> key of the pair's mask
    chain ── "pad", kind, dealer ─> pad of the dealer's share for this holder
    chain ── "gate", survivors, dealer ─> pad of the dealer's gate share for this holder
    self secret ── plan ─> key of the site's own mask
    pair secret ─> key of the envelope            seal secret ─> key of the seal

The plan's digest holds session, round, members and model, so sites that were shown different
plans make masks that do not cancel. Nothing here checks anything. AES-GCM keys below serve one
message each, which is why their nonce is constant.
"""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from consilium import wire
from consilium.secagg import shamir
from consilium.secagg.messages import Plan

ONE_NONCE: Final = bytes(12)
KEY_BYTES: Final = 32

Kind: TypeAlias = Literal["self", "pair"]  # of the two secrets a site shares out each round


# -- Agreement ------------------------------------------------------------------------


def public_key(secret: bytes) -> bytes:
    """Returns the X25519 public key that belongs to a site's 32-byte session secret."""
    return _private_key(secret).public_key().public_bytes_raw()


def agree(secret: bytes, peer_key: bytes) -> bytes:
    """Returns the secret shared with the peer.

    Raises:
        ValueError: The peer's key is not 32 bytes, or forces a shared secret of zeros.
    """
    return _private_key(secret).exchange(X25519PublicKey.from_public_bytes(peer_key))


def own_secret(secret: bytes) -> bytes:
    """Returns what stands for `agree` where a site is its own peer: it keeps a share itself."""
    return wire.derive(secret, "secagg own secret")


def hybrid_secret(agreed: bytes, encapsulated: bytes) -> bytes:
    """Returns 32 bytes that nobody knows who lacks one of a pair's X25519 and ML-KEM secrets.

    Their public keys and ciphertexts enter the chain with the session.
    """
    return wire.digest("secagg hybrid secret", agreed, encapsulated)


def _private_key(secret: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(wire.derive(secret, "secagg x25519")[:KEY_BYTES])


# -- Chains ---------------------------------------------------------------------------


def first_chain(shared: bytes, session: bytes, site: int, peer: int) -> bytes:
    """Returns the chain of a pair at round 0, bound to the whole session."""
    return wire.derive(shared, "secagg chain", session, min(site, peer), max(site, peer))


def advance(chains: Mapping[int, bytes], steps: int) -> dict[int, bytes]:
    """Returns the chains `steps` rounds later; there is no way back."""
    later = dict(chains)
    for _ in range(steps):
        later = {peer: wire.derive(chain, "secagg next") for peer, chain in later.items()}
    return later


# -- Masks ----------------------------------------------------------------------------


def plan_digest(session: bytes, plan: Plan) -> bytes:
    """Returns the 32 bytes that bind a mask to what its site was shown."""
    return wire.digest("secagg plan", session, plan.round, plan.members, plan.model)


def root(chain: bytes) -> bytes:
    """Returns a round's root of a pair; it is all that a drop-out makes known of the chain."""
    return wire.derive(chain, "secagg root")[:KEY_BYTES]


def pair_mask(pair_root: bytes, plan: bytes) -> bytes:
    """Returns the key of the mask that one site of the pair adds and the other takes off."""
    return wire.derive(pair_root, "secagg pair mask", plan)[:KEY_BYTES]


def self_mask(self_secret: int, plan: bytes) -> bytes:
    """Returns the key of the mask that a site adds alone."""
    return wire.derive(shamir.pack([self_secret]), "secagg self mask", plan)[:KEY_BYTES]


# -- Shares ---------------------------------------------------------------------------


def fresh(secret: bytes, purpose: str, *parts: wire.Part) -> bytes:
    """Returns 32 bytes of the caller's secret that are for this purpose only."""
    return wire.derive(secret, "secagg fresh", purpose, *parts)[:KEY_BYTES]


def fresh_element(secret: bytes, purpose: str) -> int:
    """Returns a field element of the caller's secret that is for this purpose only."""
    return shamir.to_element(wire.derive(secret, "secagg fresh element", purpose))


def share_pad(chain: bytes, kind: Kind, dealer: int) -> int:
    """Returns the pad of `dealer`'s share for the other site of this chain, in this round."""
    return shamir.to_element(wire.derive(chain, "secagg pad", kind, dealer))


def gate_pad(chain: bytes, opening: bytes, dealer: int) -> int:
    """Returns the pad of `dealer`'s gate share for the other site, for one survivor list."""
    return shamir.to_element(wire.derive(chain, "secagg gate", opening, dealer))


def opening_digest(plan: bytes, survivors: tuple[int, ...]) -> bytes:
    """Returns the 32 bytes that bind an opening to one plan and one survivor list."""
    return wire.digest("secagg opening", plan, survivors)


def commitment(share: int) -> bytes:
    """Returns a 32-byte commitment; it hides the share, which has 255 bits of entropy."""
    return wire.digest("secagg commitment", shamir.pack([share]))


def share_out(
    value: int, threshold: int, randomness: bytes, pads: Mapping[int, int]
) -> tuple[bytes, bytes]:
    """Returns the shares of `value` less their holders' pads, and the shares' commitments."""
    shares = shamir.split(value, [shamir.point(peer) for peer in pads], threshold, randomness)
    padded = [
        (share - pad) % shamir.PRIME for share, pad in zip(shares, pads.values(), strict=True)
    ]
    return shamir.pack(padded), b"".join(commitment(share) for share in shares)


def envelope(pair_secret: int) -> AESGCM:
    """Returns the cipher of a site's envelope."""
    return AESGCM(wire.digest("secagg envelope", shamir.pack([pair_secret])))


def seal(seal_secret: int) -> AESGCM:
    """Returns the cipher of a site's sealed pads."""
    return AESGCM(wire.digest("secagg seal", shamir.pack([seal_secret])))
