# SPDX-License-Identifier: Apache-2.0
"""From the keys and ciphertexts of a set-up to the secret that a site shares with each other one.

The key in a hello is an X25519 key; in a post-quantum job an ML-KEM-768 encapsulation key
follows it, and of each pair the site with the lower number encapsulates to the other. Whoever
breaks one of the two schemes knows no secret of a pair. Signatures and digests: `session`.
"""

from collections.abc import Mapping, Sequence

from consilium.secagg import kem, keys
from consilium.secagg.job import SumJob
from consilium.secagg.messages import Ciphertexts, Hello


def session_key(job: SumJob, secret: bytes) -> bytes:
    """Returns the public key in the hello of the site with this session secret."""
    key = keys.public_key(secret)
    return key + kem.encapsulation_key(secret) if job.post_quantum else key


def split_key(key: bytes) -> tuple[bytes, bytes]:
    """Returns the X25519 key in a hello, and the ML-KEM-768 encapsulation key or nothing."""
    return key[: keys.KEY_BYTES], key[keys.KEY_BYTES :]


def agree_with_all(secret: bytes, own: int, hellos: Sequence[Hello]) -> dict[int, bytes]:
    """Returns site `own`'s X25519 secret with each site, and what stands for it with itself."""
    agreed = {hello.site: keys.agree(secret, split_key(hello.key)[0]) for hello in hellos}
    return {**agreed, own: keys.own_secret(secret)}


def encapsulate_to_higher(
    encapsulator: kem.Encapsulator, own: int, hellos: Sequence[Hello]
) -> tuple[dict[int, bytes], bytes]:
    """Returns site `own`'s ML-KEM secret with each higher site, and their ciphertexts in order."""
    higher = [hello for hello in hellos if own < hello.site]
    drawn = {hello.site: encapsulator(split_key(hello.key)[1]) for hello in higher}
    table = b"".join(ciphertext for _, ciphertext in drawn.values())
    return {peer: secret for peer, (secret, _) in drawn.items()}, table


def decapsulate_from_lower(
    secret: bytes, own: int, roster: Sequence[int], table: Sequence[Ciphertexts]
) -> dict[int, bytes]:
    """Returns site `own`'s ML-KEM secret with each lower site in `table`, of this roster."""
    return {
        said.site: kem.decapsulate(secret, ciphertext_for(own, roster, said))
        for said in table
        if said.site < own
    }


def ciphertext_for(site: int, roster: Sequence[int], said: Ciphertexts) -> bytes:
    """Returns the ciphertext for `site` among those of a lower site of this roster."""
    start = kem.CIPHERTEXT_BYTES * sum(said.site < peer < site for peer in roster)
    return said.ciphertexts[start : start + kem.CIPHERTEXT_BYTES]


def mix(
    own: int, agreed: Mapping[int, bytes], encapsulated: Mapping[int, bytes]
) -> dict[int, bytes]:
    """Returns a hybrid secret for each site that has both; site `own` has one with itself."""
    both = {
        peer: keys.hybrid_secret(agreed[peer], encapsulated[peer]) for peer in sorted(encapsulated)
    }
    return {**both, own: agreed[own]}
