# SPDX-License-Identifier: Apache-2.0
"""Removes each safeguard in turn, in a copy, and shows that a test fails: `make mutants`.

A mutant is a guard's name, the edits that remove it, and the tests that must notice. Each edit
must fit exactly once, so that a list that fell behind the code says so. The exit code is the
number of survivors. Source of the idea: DeMillo, Lipton and Sayward 1978.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

ROOT: Final = Path(__file__).parents[1]
SECAGG: Final = "tests/secagg"
ATTACKS: Final = "tests/secagg/test_attacks.py"
NOISE: Final = "tests/dp/test_noise.py"
PLAN: Final = "tests/dp/test_plan.py"
SITE: Final = "tests/federation/test_site.py"
FILES: Final = "tests/data/test_source_files.py"
DICOM: Final = "tests/data/test_dicom_files.py"
DEIDENTIFIED: Final = "tests/data/test_deidentification.py"
IMPORTING: Final = "tests/adapters/test_importing.py"
RUNNER: Final = "tests/adapters/test_site_runner.py"
WEIGHTS: Final = "tests/adapters/test_pretrained.py"
VIEWS: Final = "tests/learning/test_fresh_views.py"
BOOK: Final = "tests/governance/test_ledger.py"
PRICES: Final = "tests/governance/test_composition.py"
PAID: Final = "tests/adapters/store/test_site_ledger.py"
SEARCH: Final = "tests/adapters/test_search.py"
ACCESS: Final = "tests/governance/test_access.py"
CONTRACT: Final = "tests/governance/test_contract.py"
LOG: Final = "tests/governance/test_audit_log.py"
ASSOCIATION: Final = "tests/governance/test_association.py"
HOSTED: Final = "tests/governance/test_hosting.py"
PERMITTED: Final = "tests/governance/test_model_permits.py"
RELEASED: Final = "tests/adapters/test_releasing.py"
PUBLIC_CARD: Final = "tests/adapters/inference/test_public_card.py"
ASKING_PAGE: Final = "tests/phone/test_encrypted_page.py"
PHONE_SITE: Final = "tests/web/test_phone.py"
OPERATOR: Final = "tests/inference/test_operator.py"
MATERIAL: Final = "tests/inference/test_material.py"
RING: Final = "tests/inference/test_ring.py"
COMPILER: Final = "tests/inference/test_compiler.py"
GONE: Final = "tests/inference/test_transcripts.py"
INFERRING: Final = "tests/adapters/inference"
STORE: Final = f"{INFERRING}/test_material_store.py"
SHELF: Final = f"{INFERRING}/test_shelf.py"
SESSIONS: Final = f"{INFERRING}/test_sessions.py"
LINKS: Final = f"{INFERRING}/test_links.py"
ENDINGS: Final = f"{INFERRING}/test_endings.py"
PUBLIC: Final = f"{INFERRING}/test_public_end.py"
PICTURES: Final = f"{INFERRING}/test_pictures.py"
DRAWN: Final = f"{INFERRING}/test_randomness.py"

Edit = tuple[str, str, str]  # file under src/consilium, text, what takes its place


@final
@dataclass(frozen=True, slots=True)
class Mutant:
    """One safeguard, how it is removed, and which tests must fail then."""

    guard: str
    edits: tuple[Edit, ...]
    tests: str = SECAGG


def one(guard: str, file: str, old: str, new: str, tests: str = SECAGG) -> Mutant:
    """Returns a mutant of a single edit."""
    return Mutant(guard, ((file, old, new),), tests)


# -- The list -------------------------------------------------------------------------

JOB = [
    one("threshold rule", "secagg/job.py", "sites + colluders < 2 * threshold", "True"),
    one("two honest sites", "secagg/job.py", "0 <= colluders <= threshold - 2", "True"),
    one("three sites", "secagg/job.py", "if sites < FEWEST_SITES", "if False"),
    one("one identity a site", "secagg/job.py", "len(set(identities)) != len(identities)", "False"),
    one("ring of 12 to 32 bits", "secagg/job.py", "FEWEST_BITS <= self.bits <= MOST_BITS", "True"),
    one("noise floor", "secagg/job.py", "max(self.threshold, members - self.tolerated_drops)",
        "self.threshold", ATTACKS),
]  # fmt: skip
SETUP = [
    one("signature of a hello", "secagg/session.py",
        "        verifier.verify(hello.signature, _signed_text(job, hello.site, hello.key))\n", ""),
    one("usable key", "secagg/session.py", "    keys.agree(_PROBE, x25519)\n", ""),
    one("job in a hello", "secagg/session.py",
        '"secagg hello", job.digest(), site', '"secagg hello", site'),
    one("site in a hello", "secagg/session.py",
        '"secagg hello", job.digest(), site, key', '"secagg hello", job.digest(), key'),
    one("roster in every key", "secagg/session.py", "job.digest(), said)", "job.digest())"),
    one("job in every key", "secagg/session.py",
        '"secagg session", job.digest(), said', '"secagg session", said'),
    one("own hello on the roster", "secagg/site.py",
        "if state.hello not in roster.hellos", "if False"),
    one("lists without repeats", "secagg/session.py",
        "any(later <= earlier for earlier, later in pairwise(sites))", "False"),
    one("lists without strangers", "secagg/session.py", "if strangers:", "if False:"),
    one("lists of enough sites", "secagg/session.py", "if len(sites) < least:", "if False:"),
]  # fmt: skip
POST_QUANTUM = [
    one("X25519 in a hybrid secret", "secagg/keys.py",
        '"secagg hybrid secret", agreed, encapsulated', '"secagg hybrid secret", encapsulated'),
    one("ML-KEM in a hybrid secret", "secagg/keys.py",
        '"secagg hybrid secret", agreed, encapsulated', '"secagg hybrid secret", agreed'),
    one("hybrid secret in a chain", "secagg/agreement.py",
        "keys.hybrid_secret(agreed[peer], encapsulated[peer])", "agreed[peer]"),
    one("ML-KEM seed of its own", "secagg/kem.py", '"secagg ml-kem-768"', '"secagg x25519"'),
    one("ML-KEM in every signature", "secagg/job.py", "            self.post_quantum,\n", ""),
    one("no way around ML-KEM", "secagg/site.py", " if not state.job.post_quantum:", ":"),
    one("usable ML-KEM key", "secagg/session.py",
        "        kem.check_encapsulation_key(ml_kem)\n", "        pass\n"),
    one("no key beyond the job's", "secagg/session.py", "    elif ml_kem:", "    elif False:"),
    one("signature of ciphertexts", "secagg/session.py",
        "        verifier.verify(said.signature, "
        "_signed_ciphertexts(roster, site, said.ciphertexts))\n", "        pass\n"),
    one("roster in signed ciphertexts", "secagg/session.py",
        '"secagg ciphertexts", roster.digest, site', '"secagg ciphertexts", site'),
    one("site in signed ciphertexts", "secagg/session.py",
        '"secagg ciphertexts", roster.digest, site, ciphertexts',
        '"secagg ciphertexts", roster.digest, ciphertexts'),
    one("ciphertexts in their signature", "secagg/session.py",
        '"secagg ciphertexts", roster.digest, site, ciphertexts',
        '"secagg ciphertexts", roster.digest, site'),
    one("sender of ciphertexts", "secagg/session.py",
        "if site not in roster.sites:", "if False:"),
    one("size of ciphertexts", "secagg/session.py",
        "if len(said.ciphertexts) != expected:", "if False:"),
    one("own ciphertexts in the table", "secagg/site.py",
        "if state.said not in table.entries", "if False"),
    one("every entry of a table", "secagg/session.py",
        "        check_ciphertexts(roster, said)\n", "        pass\n"),
    one("tables of enough sites", "secagg/session.py",
        "among=roster.sites, least=roster.job.threshold", "among=roster.sites, least=0"),
    one("ciphertexts in every key", "secagg/session.py",
        '"secagg hybrid session", roster.digest, texts', '"secagg hybrid session", roster.digest'),
    one("roster in a hybrid session", "secagg/session.py",
        '"secagg hybrid session", roster.digest, texts', '"secagg hybrid session", texts'),
    one("ciphertexts once a site", "secagg/coordinator.py",
        "    _check_new(said, state.said)\n", ""),
    one("ciphertexts checked on arrival", "secagg/coordinator.py",
        "    check_ciphertexts(state.roster, said)\n", ""),
    one("ciphertexts of enough sites", "secagg/coordinator.py",
        "if len(state.said) < threshold:", "if False:"),
    one("ML-KEM as the project says", "federation/setup.py",
        "        post_quantum=settings.post_quantum,\n", "", "tests/federation/test_setup.py"),
    one("no ML-KEM without a secure sum", "federation/project.py",
        'project.sites.post_quantum and project.sites.secure_sum != "on"', "False",
        "tests/federation/test_project.py"),
]  # fmt: skip
ROUND = [
    one("one vector a round", "secagg/site.py", "if plan.round <= state.done:", "if False:"),
    one("prekeys before a plan", "secagg/site.py", "plan.round not in state.prepared", "False"),
    one("prekeys once", "secagg/site.py",
        "number <= state.done or number in state.prepared", "False"),
    one("members above the threshold", "secagg/site.py",
        "least=state.session.job.threshold)", "least=0)", ATTACKS),
    one("survivors above the least", "secagg/site.py",
        "among=members, least=least", "among=members, least=0", ATTACKS),
    one("survivors within the plan", "secagg/site.py",
        "check_sites(survivors.sites, among=members",
        "check_sites(survivors.sites, among=range(99)",
        ATTACKS),
    one("survivors of this round", "secagg/site.py",
        "if survivors.round != state.plan.round", "if False"),
    one("this site on the list", "secagg/site.py", "if site not in sites:", "if False:", ATTACKS),
    one("whole secrets", "secagg/site.py", "if len(secret) != SECRET_BYTES:", "if False:"),
    one("vectors of the job", "secagg/site.py",
        "vector.shape != (job.length,) or vector.dtype != job.word", "False"),
    one("masks of the plan", "secagg/site.py", "mask.plan != mask_keys.plan", "False"),
    Mutant("own mask", (
        ("secagg/site.py", "            keys.self_mask(self_secret, digest),\n", ""),
        ("secagg/recovery.py",
         "[keys.self_mask(secrets[site], digest) for site in closed.survivors]",
         "list[bytes]()"),
    )),
    one("one opening a round", "secagg/site.py",
        "return _erase_before(joined, plan.round + 1), (opening,)", "return state, (opening,)"),
    one("erasure after an opening", "secagg/site.py",
        "return _erase_before(joined, plan.round + 1), (opening,)", "return joined, (opening,)"),
    one("erasure of abandoned rounds", "secagg/site.py",
        "_erase_before(replace(state, done=plan.round), plan.round)",
        "replace(state, done=plan.round)"),
    one("one pad a member", "secagg/site.py",
        '"self" if dealer in survivors else "pair"', '"self"'),
    one("fresh opening secret", "secagg/site.py",
        "opening_digest(keys.plan_digest(joined.session.digest, plan), survivors)",
        'opening_digest(b"", survivors)'),
]  # fmt: skip
KEYS = [
    one("model in every mask", "secagg/keys.py",
        "session, plan.round, plan.members, plan.model)", "session, plan.round, plan.members)",
        ATTACKS),
    one("members in every mask", "secagg/keys.py",
        "session, plan.round, plan.members, plan.model)", "session, plan.round, plan.model)",
        ATTACKS),
    one("survivors in the seal", "secagg/keys.py",
        '"secagg opening", plan, survivors', '"secagg opening", plan', ATTACKS),
    one("plan in the seal", "secagg/keys.py",
        '"secagg opening", plan, survivors', '"secagg opening", survivors'),
    Mutant("seal opens by the threshold", (
        ("secagg/site.py", "joined.session.job.threshold - 1, keys", "1, keys"),
        ("secagg/recovery.py", "commitments, closed.session.job.threshold - 1)", "commitments, 1)"),
    ), ATTACKS),
    one("ratchet", "secagg/keys.py", 'wire.derive(chain, "secagg next")', "chain"),
    one("session in a chain", "secagg/keys.py", '"secagg chain", session,', '"secagg chain",'),
    one("kind in a pad", "secagg/keys.py", '"secagg pad", kind, dealer', '"secagg pad", dealer'),
    one("dealer in a pad", "secagg/keys.py", '"secagg pad", kind, dealer', '"secagg pad", kind'),
    one("plan in an own mask", "secagg/keys.py",
        '"secagg self mask", plan)', '"secagg self mask")'),
    one("purpose of a fresh secret", "secagg/keys.py",
        '"secagg fresh", purpose, *parts', '"secagg fresh", *parts'),
    one("random polynomial", "secagg/shamir.py",
        'wire.derive(randomness, "secagg polynomial", power)', "bytes(64)"),
    one("whole polynomial", "secagg/shamir.py",
        "for power in range(threshold - 1, 0, -1)", "for power in range(threshold - 2, 0, -1)"),
    one("points without zero", "secagg/shamir.py", " or 0 in points", ""),
]  # fmt: skip
COORDINATOR = [
    one("commitments of shares", "secagg/recovery.py",
        "if keys.commitment(share) == commitments[holder]:", "if True:"),
    one("proof before blame", "secagg/recovery.py", "if misfits > most}", "if misfits > 0}"),
    one("enough openings", "secagg/recovery.py", "if len(openings) < threshold:", "if False:"),
    one("sender of a message", "secagg/coordinator.py", "if message.site not in among:",
        "if False:"),
    one("round of a message", "secagg/coordinator.py", "if message.round != number:", "if False:"),
    one("one message a site", "secagg/coordinator.py", "if message.site in seen:", "if False:"),
    one("exact sizes", "secagg/coordinator.py", "if len(field_bytes) != expected:", "if False:"),
    one("uploads of enough sites", "secagg/coordinator.py",
        "if len(state.uploaded) < least:", "if False:"),
    one("prekeys of their sender", "secagg/coordinator.py",
        "if upload.prekeys.site != upload.site:", "if False:"),
    one("bounded prekeys", "secagg/coordinator.py", " or len(ahead) >= MOST_PENDING", ""),
]  # fmt: skip
WIRE = [
    one("one spelling", "wire.py", "if again != data:", "if False:",
        "tests/test_wire.py"),
    one("bounded messages", "wire.py", "if not 1 < len(data) <= limit:", "if False:",
        "tests/test_wire.py"),
    one("one version", "wire.py", "if data[0] != VERSION:", "if False:", "tests/test_wire.py"),
    one("injective frames", "wire.py", "out += kind + len(raw)", "out += len(raw)",
        "tests/test_wire.py"),
    one("messages show sizes", "secagg/messages.py",
        "isinstance(value, bytes | memoryview)", "False"),
]  # fmt: skip
NOISED = [
    one("least noise of the lemma", "dp/noise.py", "if sigma < LEAST_SIGMA:", "if False:", NOISE),
    one("doubt of float32", "dp/noise.py", "0.5 - _ERROR32 * sigma", "0.5", NOISE),
    one("tails of float32", "dp/noise.py",
        "return shifted >= np.uint32((1 << 32) - 2 * _TAIL32)",
        "return np.zeros(shifted.shape, np.bool_)", NOISE),
    one("tails of float64", "dp/noise.py", "_ERROR64 * sigma) | tail[place]", "_ERROR64 * sigma)",
        NOISE),
    one("values in range", "dp/noise.py",
        "if values.size and not max(values.max(), -values.min()) < LARGEST:", "if False:", NOISE),
    one("colluders' noise is known", "dp/plan.py",
        "return self.least - self.colluders", "return self.least", PLAN),
    one("drops lose noise", "dp/plan.py",
        "self.noise_multiplier * self.l2_clip_norm / math.sqrt(shares.honest)",
        "self.noise_multiplier * self.l2_clip_norm / math.sqrt(shares.members)", PLAN),
    one("clamp before the lattice", "dp/plan.py",
        "np.clip(total, -self.clamp, self.clamp, dtype=np.float32)", "total.copy()", PLAN),
    one("room for noise in the ring", "dp/plan.py",
        " + _NOISE_RANGE * spread * math.sqrt(shares.members)", "", PLAN),
]  # fmt: skip
SITES = [
    one("receipt before release", "federation/site.py",
        "if event.receipt.charge != charge_digest(", "if False and charge_digest(", SITE),
    one("weights of the plan", "federation/site.py",
        "if plan.model != model_digest(start.weights):", "if False:", SITE),
    one("one answer a round, across restarts", "federation/site.py",
        "return Waiting(state.terms, joined, state.done), ()",
        "return Waiting(state.terms, joined), ()", SITE),
    one("a failed round is over", "federation/site.py",
        "return replace(state.waiting, done=number), ()", "return state.waiting, ()", SITE),
    one("one sum at all processes of a site", "adapters/site_team_line.py",
        "any(other != digest(_SUM, data) for other in others)", "False",
        "tests/adapters/test_site_team.py::test_a_sum_that_not_all_processes_hold_is_refused"),
    one("last round read at the start", "adapters/site_runner.py",
        "Start(self._parts.source(), done)", "Start(self._parts.source())", RUNNER),
    one("charge on the disk", "adapters/ledger_file.py",
        'msgspec.json.encode(line) + b"\\n")\n            os.fsync(self._file.fileno())',
        'msgspec.json.encode(line) + b"\\n")', "tests/adapters/test_ledger_file.py"),
]  # fmt: skip
LEARNING = [
    one("tensors and nothing else in weights", "adapters/pretrained.py",
        'map_location="cpu", weights_only=True', 'map_location="cpu", weights_only=False', WEIGHTS),
    one("digest of weights", "adapters/pretrained.py",
        "if found != sha256.lower():", "if False:", WEIGHTS),
    one("frozen weights out of the vector", "learning/transfer.py",
        "parameter.requires_grad_(name in names)", "parameter.requires_grad_(True)", WEIGHTS),
    one("digest beside weights", "federation/project.py",
        "(model.weights is None) != (model.weights_sha256 is None)", "False", WEIGHTS),
    one("an image's own pixels in its views", "learning/fresh_views.py",
        "+ key + image.tobytes())", "+ key + np.random.bytes(8))", VIEWS),
    one("one clip over all views", "federation/contribution.py",
        "np.tile(owners, self.views)",
        "np.arange(len(owners) * self.views)", "tests/adapters/test_augmentation_runs.py"),
    one("no search on patients", "federation/search_space.py",
        "if ARMS[arm].private:", "if False:", SEARCH),
    one("a search reads the twin", "adapters/search.py",
        '{"data.source": asked.public_twin}', "{}", SEARCH),
    one("no trial looks at test records", "adapters/search.py",
        "            raise _Enough", "            pass", SEARCH),
]  # fmt: skip
IMPORT = [
    one("import: links are not followed", "data/source_files.py",
        "if not stat.S_ISREG(os.lstat(path).st_mode):", "if False:", FILES),
    one("import: names that lead out", "data/source_files.py",
        "    check_name(file.name)\n", "    pass\n", FILES),
    one("import: only some of Pillow's readers", "data/image_files.py",
        "if image.format != expected:", "if False:", "tests/data/test_image_files.py"),
    one("import: size before pixels", "data/image_files.py",
        "        check_size(*image.size, len(image.getbands()))\n", "",
        "tests/data/test_image_files.py"),
    one("import: deflated objects are measured", "data/dicom_files.py",
        "        _check_inflated(data)\n", "", DICOM),
    one("import: size before frames", "data/dicom_files.py",
        "        check_size(int(dataset.Rows), int(dataset.Columns), frames, channels)\n", "",
        DICOM),
    one("import: libraries are kept quiet", "data/quiet.py",
        "        logger.setLevel(_ABOVE_ALL)\n", "        pass\n", DICOM),
    one("import: no gap in a series", "data/dicom_series.py",
        "if between <= 0 or", "if False and", "tests/data/test_dicom_series.py"),
    one("import: header of a NIfTI first", "data/nifti_files.py",
        "    _check_header(header, len(plain))\n", "", "tests/data/test_nifti_files.py"),
    one("import: terms of a closed list", "data/deidentification.py",
        'return value if value in _TERMS[keyword] else ""', "return value", DEIDENTIFIED),
    one("import: keyed pseudonyms", "data/deidentification.py",
        'return hmac.digest(self.key, frame(_PSEUDONYM, patient), "sha256")',
        'return hmac.digest(b"", frame(_PSEUDONYM, patient), "sha256")', DEIDENTIFIED),
    one("import: great ages", "data/deidentification.py",
        'match[2] == "Y" and int(match[1]) > _OLDEST', "False", DEIDENTIFIED),
    one("import: text is flagged", "data/dicom_risks.py",
        'said not in ("", "NO")', "False", DEIDENTIFIED),
    one("import: unknown parts may be a face", "data/dicom_risks.py",
        'return _word(dataset, "BodyPartExamined") not in _BELOW_THE_NECK',
        'return _word(dataset, "BodyPartExamined") == "HEAD"', DEIDENTIFIED),
    one("import: patients in one split", "data/manifest.py",
        "    _check_splits(entries.values(), path.name)\n", "", "tests/data/test_manifest.py"),
    one("import: a missing patient is refused", "data/reading.py",
        "if patient is None:", "if False:", IMPORTING),
    one("import: risks are blocked", "data/reading.py",
        "            self._check_risks(dataset)\n", "            pass\n", IMPORTING),
    one("import: going on from a mark", "adapters/dataset_writer.py",
        "            file.truncate(marks[name])\n", "", IMPORTING),
    one("import: the same import goes on", "adapters/importing.py",
        "    if state.job != name:", "    if False:", IMPORTING),
    one("import: the secret outside", "adapters/pseudonym_key.py",
        "if path.resolve().is_relative_to(outside.resolve()):", "if False:", IMPORTING),
    one("import: the secret is its owner's", "adapters/pseudonym_key.py",
        "if mode or len(key)", "if len(key)", IMPORTING),
]  # fmt: skip
LEDGER = [
    one("ledger: cap of a dataset", "governance/ledger.py",
        "if cost * steps > account.free:", "if False:", BOOK),
    one("ledger: patients' caps", "governance/participation.py",
        "if one.charged + cost <= allowance", "if True", BOOK),
    one("ledger: no more than is held", "governance/ledger.py",
        "if not 1 <= steps <= reservation.held:", "if False:", BOOK),
    one("ledger: returned is returned", "governance/ledger.py",
        "if not reservation.is_open:\n        raise AccessDenied(",
        "if False:\n        raise AccessDenied(", BOOK),
    one("ledger: freezing", "governance/ledger.py", "if account.frozen:", "if False:", BOOK),
    one("ledger: two people", "governance/ledger.py", "found = sorted(set(people))",
        "found = sorted(people) + ['x', 'y']", BOOK),
    one("ledger: delta is part of a cap", "governance/ledger.py",
        " or cap.delta > allowance.cap.delta", "", BOOK),
    one("ledger: the chain", "governance/ledger_entries.py",
        "if row.link != link_of(previous, row.sequence, row.time, row.body):", "if False:", BOOK),
    one("ledger: rules are replayed", "governance/ledger_entries.py",
        "return apply(state, entry_of(row.body), row.sequence)", "return state", BOOK),
    one("ledger: divergences round up", "governance/composition.py",
        "return math.ceil(divergence / UNIT)", "return math.floor(divergence / UNIT)", PRICES),
    one("ledger: slack is charged", "governance/composition.py",
        "value + step.slack * (2 * order - 1) / (order - 1) * (1 + 1e-12)", "value", PRICES),
    one("ledger: one spelling of an event", "governance/events.py",
        "if not canonical:", "if False:", PRICES),
    one("ledger: a round is charged once", "governance/ledger.py",
        "if round_ and round_ <= reservation.last_round:", "if False:", PAID),
    one("ledger: a permit is asked for each charge", "adapters/store/site_ledger.py",
        "            if permit is not None:\n                permit.check(connection)\n", "", PAID),
    one("ledger: who opted out is left out", "adapters/store/site_ledger.py",
        "joined = self._joined - out", "joined = self._joined", PAID),
]  # fmt: skip
PROTOCOL: Final = (*JOB, *SETUP, *POST_QUANTUM, *ROUND, *KEYS, *COORDINATOR, *WIRE)
GOVERNANCE = [
    one(
        "an author does not review",
        "governance/decisions.py",
        "actor.id not in resource.people | {resource.author}",
        "True",
        ACCESS,
    ),
    one(
        "nobody changes their own rights",
        "governance/decisions.py",
        "resource.subject not in own",
        "True",
        ACCESS,
    ),
    one(
        "nobody hands out what they lack",
        "governance/decisions.py",
        "resource.permissions <= actor.permissions",
        "True",
        ACCESS,
    ),
    one(
        "a service has one project",
        "governance/decisions.py",
        "actor.project is not None and actor.project == resource.id",
        "True",
        ACCESS,
    ),
    one(
        "a contract in canonical form",
        "governance/contract.py",
        "if contract_bytes(contract) != data:",
        "if False:",
        CONTRACT,
    ),
    one(
        "a signature's key",
        "governance/contract.py",
        "forged = signature.key != key.hex()",
        "forged = False",
        CONTRACT,
    ),
    one(
        "no contract without a guarantee",
        "governance/policy.py",
        "return [words] if policy.needs_guarantee else []",
        "return []",
        CONTRACT,
    ),
    one(
        "the worse epsilon counts",
        "governance/policy.py",
        "max(promised.epsilon, promised.epsilon_participant)",
        "promised.epsilon",
        CONTRACT,
    ),
    one(
        "a rewritten log",
        "governance/audit_log.py",
        "witnessed.pop(entry.sequence, entry.link) != entry.link",
        "False",
        LOG,
    ),
    one(
        "heads overlap",
        "governance/audit_log.py",
        "if last and head.first > last:",
        "if False:",
        LOG,
    ),
    one(
        "an introduction is for this office",
        "governance/association.py",
        "if claim.to != to:",
        "if False:",
        ASSOCIATION,
    ),
    one(
        "an introduction comes once",
        "governance/association.py",
        "len(claim.nonce) != NONCE or claim.nonce in seen",
        "False",
        ASSOCIATION,
    ),
    one(
        "an expired grant covers nothing",
        "governance/grants.py",
        "now >= grant.expires",
        "False",
        HOSTED,
    ),
    one(
        "no guarantee, no download",
        "governance/model_permissions.py",
        "if not private:",
        "if False:",
        PERMITTED,
    ),
    one(
        "a permit's signature is checked",
        "governance/model_permits.py",
        "key.verify(bytes.fromhex(document.signature), _signed_text(document))",
        "_signed_text(document)",
        PERMITTED,
    ),
    one(
        "an office's model needs the office's permit",
        "adapters/releasing.py",
        "if permit is None and papers.office is not None:",
        "if False:",
        RELEASED,
    ),
    one(
        "a permit is of these weights",
        "adapters/finished_models.py",
        "if permit.weights != weights:",
        "if False:",
        RELEASED,
    ),
    one(
        "a permit is of the office that the weights name",
        "adapters/finished_models.py",
        "if office not in (None, permit.publisher):",
        "if False:",
        RELEASED,
    ),
    one(
        "a permit promises no more than the statement",
        "adapters/model_card.py",
        "if permit.epsilon is not None and (found is None or found > permit.epsilon):",
        "if False:",
        RELEASED,
    ),
    one(
        "a page hands out what devices may have",
        "web/phone/site.py",
        "    require(card.permit, Use.DEVICE)\n",
        "",
        RELEASED,
    ),
    one(
        "the phone page reaches no network",
        "web/phone/policies.py",
        "manifest-src 'self'; worker-src 'self'; connect-src 'none'",
        "manifest-src 'self'; worker-src 'self'; connect-src *",
        PHONE_SITE,
    ),
    one(
        "its worker reaches two operators alone",
        "web/phone/policies.py",
        "connect-src {operators}; ",
        "connect-src *; ",
        ASKING_PAGE,
    ),
    one(
        "an operator's name adds nothing to a policy",
        "web/phone/encrypted_site.py",
        "if not _HOST.fullmatch(address.host):",
        "if False:",
        PHONE_SITE,
    ),
    one(
        "operators offer what the card describes",
        "web/phone/encrypted_site.py",
        "if program.image != (rule.size, rule.size, rule.channels):",
        "if False:",
        PHONE_SITE,
    ),
    one(
        "a card's signature is checked",
        "adapters/model_card.py",
        """    check_signature(card, f"the card of model {card.name!r}")\n""",
        "",
        RELEASED,
    ),
    one(
        "an operator checks a card",
        "adapters/inference/public_card.py",
        "    return check_card(card)",
        "    return card",
        RELEASED,
    ),
    one(
        "a patient checks a card",
        "adapters/inference/asking.py",
        "            check_card(one.card)\n",
        "",
        PUBLIC_CARD,
    ),
    one(
        "another kind of picture stays here",
        "adapters/inference/folders.py",
        "sort_pictures(part, card.about.input, rule, card.about.kind)",
        "sort_pictures(part, card.about.input, rule, None)",
        PUBLIC_CARD,
    ),
    one(
        "another publisher is not asked",
        "cli/encrypted.py",
        "        _check_publisher(offered.card, request.publisher)\n",
        "",
        PUBLIC_CARD,
    ),
]

INFERENCE = [
    one("inference: receipts of marks", "inference/operator.py",
        "if event.receipts != marks:", "if False:", OPERATOR),
    one("inference: an opening's session and number", "inference/operator.py",
        "if (other.session, other.number) != (state.session, state.number):", "if False:",
        OPERATOR),
    one("inference: most images a session", "inference/operator.py",
        "== len(numbers) <= MOST_IMAGES:", "== len(numbers):", OPERATOR),
    one("inference: no material twice a session", "inference/operator.py",
        "if not 1 <= len(set(numbers)) == len(numbers)", "if not 1 <= len(numbers)", OPERATOR),
    one("inference: material of this publication", "inference/operator.py",
        "if any(one.publication != model.publication for one in materials):", "if False:",
        OPERATOR),
    one("inference: seed of this publication", "inference/operator.py",
        "if share.publication != event.seed.publication:", "if False:", OPERATOR),
    one("inference: weights of this publication", "inference/operator.py",
        "if other.publication != state.publication:", "if False:", OPERATOR),
    one("inference: as many images as materials", "inference/operator.py",
        "if share.count != len(state.numbers):", "if False:", OPERATOR),
    one("inference: words of the ring", "inference/ring.py",
        "if bits % 8 and bool(np.any(words >> kind.type(bits))):", "if False:", RING),
    one("inference: exact sizes", "inference/ring.py",
        "if len(data) != count * size:", "if len(data) < count * size:", RING),
    one("inference: a random first share", "inference/sharing.py",
        "first = reduce(drawn, bits)", "first = reduce(drawn * 0, bits)", RING),
    one("inference: values that fit the ring", "inference/sharing.py",
        "if not np.all(np.abs(scaled) < limit):", "if False:", RING),
    one("inference: a stream for each step", "inference/material.py",
        '"inference material", step, name)', '"inference material", name)', MATERIAL),
    one("inference: a stream for each name", "inference/material.py",
        '"inference material", step, name)', '"inference material", step)', MATERIAL),
    one("inference: masks", "inference/material.py", "reduce(drawn, bits).reshape(shape)",
        'reduce(drawn, bits).reshape(shape) * (name != "mask")', GONE),
    one("inference: covers", "inference/material.py", "reduce(drawn, bits).reshape(shape)",
        'reduce(drawn, bits).reshape(shape) * (name != "cover")', GONE),
    one("inference: masks of weights", "inference/material.py",
        "reduce(drawn, bits).reshape(shape)",
        'reduce(drawn, bits).reshape(shape) * (name != "weights")', GONE),
    one("inference: choices under a coin", "inference/material.py",
        "reduce(drawn, bits).reshape(shape)",
        'reduce(drawn, bits).reshape(shape) * (name != "beta")', GONE),
    one("inference: material of its own for each image", "inference/protocol.py",
        'f"{who} of image {image}"', 'f"{who} of image"', GONE),
    one("inference: whole seeds", "inference/material.py",
        "if len(self.seed) != SEED_BYTES:", "if False:", MATERIAL),
    one("inference: corrections to their end", "inference/material.py",
        "if view is not None and at != len(view):", "if False:", MATERIAL),
    one("inference: messages show sizes", "inference/messages.py",
        "if isinstance(value, bytes) else value", "if False else value", OPERATOR),
    one("inference: seeds of a deal differ", "inference/dealer.py",
        "if len(set(event.seeds)) != len(event.seeds):", "if False:",
        "tests/inference/test_protocol.py"),
    one("inference: numbers grow", "inference/dealer.py",
        "number=state.number + 1", "number=state.number", "tests/inference/test_comparison.py"),
    one("inference: one answer an operator", "inference/patient.py",
        "if event.operator in state.answers:", "if False:", OPERATOR),
    one("inference: an answer's session", "inference/patient.py",
        "event.share.session != state.session or", "", OPERATOR),
    one("inference: only masked values are convolved", "inference/program.py",
        "case Convolve() if read.kind is Kind.OPENED:", "case Convolve():",
        "tests/inference/test_program.py"),
    one("inference: an answer is no opened value", "inference/program.py",
        "if values[-1].kind is not Kind.WIDE:", "if False:", "tests/inference/test_program.py"),
    one("inference: programs of bounded size", "inference/program.py",
        " or total > MOST_VALUES", "", "tests/inference/test_program.py"),
    one("inference: ranges that fit the window", "inference/compiler.py",
        "if found[number] < LEAST_FRACTION:", "if False:", COMPILER),
    one("inference: bits for the weights", "inference/compiler.py",
        "if left < LEAST_WEIGHT_FRACTION:", "if False:", COMPILER),
    one("inference: enough images to calibrate", "inference/ranges.py",
        "if len(images) < LEAST_IMAGES:", "if False:", COMPILER),
]  # fmt: skip
OPERATORS = [
    one("operators: used numbers are read", "adapters/inference/material_store.py",
        "self._used = self._read_used()", "self._used = set[int]()", STORE),
    one("operators: used numbers are not dealt", "adapters/inference/material_store.py",
        "if material.number in self._used or ", "if ", STORE),
    one("operators: a number is marked once", "adapters/inference/material_store.py",
        "if not set(numbers) <= set(self._waiting) or len(set(numbers)) != len(numbers):",
        "if False:", STORE),
    one("operators: the mark is synced", "adapters/inference/material_store.py",
        "            os.fsync(log.fileno())\n", "", STORE),
    one("operators: damaged material is put away", "adapters/inference/shelf.py",
        "            self.materials.discard((number,))\n", "", SHELF),
    one("operators: what is revoked is not prepared", "adapters/inference/shelf.py",
        "        if self.revoked:\n            raise AccessDenied(", "        if False:\n"
        "            raise AccessDenied(", SHELF),
    one("operators: one seed a publication", "adapters/inference/shelf.py",
        "            if self.opening is not None:\n", "            if False:\n", SHELF),
    one("operators: a seed is tried before it is kept", "adapters/inference/shelf.py",
        '            state, opening = self._seeded(seed)\n            write_whole(',
        '            write_whole(self._folder / "seed", wire.encode(seed))\n'
        '            state, opening = self._seeded(seed)\n            write_whole(', SHELF),
    one("operators: programs are checked", "adapters/inference/shelf.py",
        "            check_program(put.share.program)\n", "", SHELF),
    one("operators: an answer's token", "adapters/inference/sessions.py",
        " or not hmac.compare_digest(found.token, token)", "", SESSIONS),
    one("operators: a share is taken once", "adapters/inference/sessions.py",
        "share, found.share = found.share, None", "share = found.share", SESSIONS),
    one("operators: a session comes once", "adapters/inference/sessions.py",
        "if share.session in self._sessions:", "if False:", SESSIONS),
    one("operators: bounded sessions", "adapters/inference/sessions.py",
        "if sum(one.under_way for one in self._sessions.values()) >= MOST:", "if False:",
        SESSIONS),
    one("operators: the peer's name", "adapters/inference/links.py",
        "if found != peer:", "if False:", f"{INFERRING}/test_parties.py"),
    one("operators: certificates at both ends", "adapters/inference/kit.py",
        "context.verify_mode = ssl.CERT_REQUIRED",
        "context.verify_mode = ssl.CERT_OPTIONAL if server else ssl.CERT_REQUIRED", LINKS),
    one("operators: bounded messages", "adapters/inference/links.py",
        "if size > LARGEST:", "if False:", LINKS),
    one("operators: time limits of links", "adapters/inference/links.py",
        "if left <= 0:", "if left <= -9:", LINKS),
    one("operators: owners publish", "adapters/inference/computing.py",
        'case "owner", PutModel():', "case _, PutModel():", LINKS),
    one("operators: owners revoke", "adapters/inference/computing.py",
        'case "owner", Revoke():', "case _, Revoke():", LINKS),
    one("operators: dealers deal", "adapters/inference/computing.py",
        'case "dealer", Material():', "case _, Material():", LINKS),
    one("operators: operator 0 leads", "adapters/inference/computing.py",
        'case "operator-0", Meet() if self.party == 1:', "case _, Meet() if self.party == 1:",
        LINKS),
    one("operators: a revoked model is refused", "adapters/inference/computing.py",
        "        if published.revoked:\n", "        if False:\n", PUBLIC),
    one("operators: what one lacks is put away", "adapters/inference/computing.py",
        "published.materials.discard(set(mine) - theirs)", "pass", ENDINGS),
    one("operators: material at both", "adapters/inference/computing.py",
        "if not set(meet.numbers) <= set(here):", "if False:", ENDINGS),
    one("operators: the leader drops its link", "adapters/inference/computing.py",
        '                _LOG.exception("session failed")\n        self._drop_peer()\n',
        '                _LOG.exception("session failed")\n', ENDINGS),
    one("operators: a link that ended is dropped", "adapters/inference/computing.py",
        "if self._peer is not None and self._peer.ended():", "if False:", ENDINGS),
    one("operators: a dealer adopts first", "adapters/inference/dealing.py",
        "if seeds is None and (first.seeded or second.seeded):", "if False:", DRAWN),
    one("operators: numbers before material", "adapters/inference/dealing.py",
        "        self._write(first, self._seeds(first), state.number + 1)\n", "", DRAWN),
    one("operators: tokens differ", "adapters/inference/asking.py",
        "tokens = [secrets.token_bytes(32) for _ in shares]",
        "tokens = [secrets.token_bytes(32)] * 2", DRAWN),
    one("operators: one description at both", "adapters/inference/asking.py",
        "if (twin.card, twin.program) != (one.card, one.program):", "if False:",
        f"{INFERRING}/test_parties.py"),
    one("operators: shares of exact size", "adapters/inference/public_end.py",
        "    if len(body) != size:\n", "    if False:\n", PUBLIC),
    one("operators: a long share is cut", "adapters/inference/public_end.py",
        "if len(body) > size:", "if False:", PUBLIC),
    one("operators: a slow share ends", "adapters/inference/public_end.py",
        "async with asyncio.timeout(_UPLOAD):", "async with asyncio.timeout(None):", PUBLIC),
    one("operators: few images at once", "adapters/inference/public_end.py",
        "if not 1 <= count <= MOST_IMAGES:", "if count < 1:", PUBLIC),
    one("operators: no token is repeated", "adapters/inference/public_end.py",
        'raise AccessDenied("no token; send', 'raise AccessDenied(f"{word} no token; send', PUBLIC),
    one("operators: files alone are read", "adapters/inference/pictures.py",
        "if not stat.S_ISREG(about.st_mode):", "if False:", PICTURES),
    one("operators: size of a file", "adapters/inference/pictures.py",
        "if about.st_size > MAX_FILE_BYTES:", "if False:", PICTURES),
    one("operators: one frame", "adapters/inference/pictures.py",
        "if sample.pixels.shape[1] > 1:", "if False:", PICTURES),
]  # fmt: skip

MUTANTS: Final = (
    *PROTOCOL, *NOISED, *SITES, *IMPORT, *LEARNING, *LEDGER, *GOVERNANCE, *INFERENCE, *OPERATORS,
)  # fmt: skip


# -- The run --------------------------------------------------------------------------


def apply(room: Path, edits: Sequence[Edit]) -> None:
    """Makes the edits in the copy.

    Raises:
        ValueError: A text does not occur exactly once.
    """
    for file, old, new in edits:
        path = room / "src" / "consilium" / file
        text = path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{file}: {old!r} occurs {text.count(old)} times; expected once")
        path.write_text(text.replace(old, new))


def restore(room: Path, edits: Sequence[Edit]) -> None:
    """Undoes the edits in the copy."""
    for file, _, _ in edits:
        shutil.copy(ROOT / "src" / "consilium" / file, room / "src" / "consilium" / file)


def failures(room: Path, tests: str) -> str | None:
    """Returns the first test that fails, or None where all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
    environment = {**os.environ, "PYTHONPATH": str(room / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(  # noqa: S603 - this interpreter, on our own tests
        [*command, "-m", "not slow"], cwd=room, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0].split("::")[-1] if lines else "the run itself"


def killed(room: Path, mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, str | None]]:
    """Yields each mutant with the test that noticed it, or None."""
    for mutant in mutants:
        apply(room, mutant.edits)
        yield mutant, failures(room, mutant.tests)
        restore(room, mutant.edits)


def main(names: Sequence[str]) -> int:
    """Runs the mutants whose guard holds one of the names, or all; returns the survivors."""
    chosen = [m for m in MUTANTS if not names or any(name in m.guard for name in names)]
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, room / name)
        shutil.copy(ROOT / "pyproject.toml", room)
        (room / "web-build").symlink_to(ROOT / "web-build")  # tests read the page's sources
        for tests in sorted({mutant.tests for mutant in chosen}):
            broken = failures(room, tests)
            if broken:
                print(f"{tests} fails unchanged: {broken}")
                return 1
        for mutant, test in killed(room, chosen):
            survivors += test is None
            print(f"{mutant.guard:40} {'SURVIVED' if test is None else test}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants are killed")
    return survivors


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
