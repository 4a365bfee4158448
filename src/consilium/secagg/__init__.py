# SPDX-License-Identifier: Apache-2.0
"""The secure sum: the coordinator learns the sum of the sites' vectors and nothing else.

Every pair of sites shares a key that is stepped forward each round. A site adds to its vector
one mask for each other member of the round (the two masks of a pair cancel in the sum) and
one mask of its own. Its own mask, and the pair masks of a site that dropped out, are removed
with secrets that every site shared out beforehand. Read `protocol.run_secure_sum` first.

    job       what every site approves, and the rules that its numbers obey
    messages  what crosses the wire             traffic   how many bytes that is
    session   who takes part, signed            keys      every derived key, with its purpose
    agreement the secret of each pair           kem       ML-KEM-768, where the job says so
    shamir    threshold sharing                 masks     keys expanded and added
    site      states and steps of a site        coordinator, recovery   those of the coordinator
    protocol  all parties in one function

Threat model: a malicious coordinator with up to `colluders` sites on its side, over channels
that tell the coordinator which site speaks. It may lie about the roster, the plan and the
survivors, tell different sites different things, and replay or withhold anything.

| who | learns |
|---|---|
| coordinator | the sum over one list of at least `least` survivors a round; who took part |
| coordinator, of a dropped site | the keys of its pair masks in that round; its own mask stays |
| coordinator and colluders | the sum of the other survivors, at least `honest` of them |
| site | the roster, the plan and the survivors; no vector and no sum |
| thief of a site's state | nothing of the rounds it has completed; the session's coming rounds |

| a site stops | what follows |
|---|---|
| before the roster, or its ciphertexts | the session runs without it |
| before its prekeys of a round | it is no member; prekeys of a later round bring it back |
| after the plan, before its upload | the sum is over the others |
| after its upload | it is in the sum; any `threshold` openings suffice |
| fewer than `least` uploads or `threshold` openings | the round opens nothing |

Not covered: a site that lies about its vector (any word vector is a valid input), a site that
stops every round, and traffic analysis. Who records a session and later has a quantum computer
learns its masks from the X25519 keys, unless the job is post-quantum; signatures (Ed25519) need
to hold only while a session is made. Python cannot wipe memory: a forgotten secret is one that
no state holds any more. The opening that folds the consistency check into one message is our
own construction: it has tests, a sketch of a proof in `site`, and no external review yet.

Source: Bonawitz et al. 2017 (ia.cr/2017/281), sections 4 and 6 (double masking, active
adversary); Bell et al. 2020 (ia.cr/2020/704) for the state of the art it is measured by;
Pasquini et al. 2022 (arXiv:2111.07380) for the attack that binding the model stops.
"""
