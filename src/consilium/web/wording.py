# SPDX-License-Identifier: Apache-2.0
"""A report's sentences, made from values: for a data steward who does not program.

Guarantees: no sentence claims more than the run's statement; an arm without a guarantee is said
to have none. What these sentences describe is the protocol as it ran, not what else a party does.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from consilium.dp.plan import View
from consilium.federation.arms import ARMS, Noise
from consilium.federation.results import RunResult
from consilium.federation.statement import NEIGHBOURS, Guarantee, Statement
from consilium.web import formats
from consilium.web.summary import ArmSummary, by_arm, costliest, summary_rows, worst_view

_NO_SECURE_SUM: Final = "none"

# -- Summary --------------------------------------------------------------------------


def summary(results: Sequence[RunResult], main: RunResult) -> tuple[str, ...]:
    """Returns the sentences of the first paragraph, about `main` and its arm."""
    rows = {row.arm: row for row in summary_rows(results)}
    statement = costliest(by_arm(results)[main.arm])
    return (
        _who_trained(main),
        _quality(main, rows[main.arm]),
        *_recognised(main, rows[main.arm]),
        *_beside_central(rows, main.arm),
        *_bound(statement),
    )


def _who_trained(main: RunResult) -> str:
    patients = sum(site.patients for site in main.sites)
    records = sum(site.records for site in main.sites)
    seen = formats.plural(records, "record")
    if main.statement.unit == "patient":
        seen = f"{formats.plural(patients, 'patient')} ({seen})"
    if not ARMS[main.arm].federated:
        return f"One party that holds all data trained a model on {seen}."
    sites = formats.words(len(main.sites), "site").capitalize()
    return f"{sites} trained one model on {seen} without any record leaving its site."


def _quality(main: RunResult, row: ArmSummary) -> str:
    name, interval = called(row), row.headline_interval
    several = len(row.seeds) > 1
    over = f" over {formats.words(len(row.seeds), 'seed')}" if several else ""
    span = f" (95 % CI {formats.interval(interval)}" if interval is not None else ""
    if span:
        span += f", seed {row.seeds[0]})" if several else ")"
    return (
        f"The {row.arm} model reaches {name} {formats.spread(row.headline)}{over}{span} on "
        f"{tested_on(main)}."
    )


def called(row: ArmSummary) -> str:
    """Returns what the arm's one number is called."""
    return "mean foreground Dice" if row.headline_name == "Dice" else row.headline_name


def tested_on(run: RunResult) -> str:
    """Returns "624 test records of 427 patients"; patients only where they are known."""
    records = formats.plural(run.test.records, "test record")
    if run.statement.unit != "patient":
        return records
    return f"{records} of {formats.plural(run.test.patients, 'patient')}"


def _recognised(main: RunResult, row: ArmSummary) -> tuple[str, ...]:
    """Returns what two classes' recalls mean; the AUC alone hides a bad cut-off."""
    if row.sensitivity is None or row.specificity is None or main.maps is not None:
        return ()
    negative, positive = main.classes
    return (
        f"At a cut-off of one half it recognises {formats.of_hundred(row.sensitivity.mean)} "
        f"records of class {positive} and {formats.of_hundred(row.specificity.mean)} of class "
        f"{negative}.",
    )


def _bound(statement: Statement) -> tuple[str, ...]:
    worst, unit = worst_view(statement), statement.unit
    if not statement.private or worst is None:
        return (f"It carries no guarantee: nothing bounds what it reveals about a {unit}.",)
    return (
        f"What anyone outside {_outside(worst, unit)} is bounded by epsilon "
        f"{formats.epsilon(worst.epsilon)} at delta {formats.delta(statement.delta)}:",
        f"an attacker who knows everything except whether the {unit} took part, and holds that "
        "as likely as not, "
        f"is right at most {formats.right_guesses(worst.membership_advantage)} of the time, "
        "where a coin is right half the time.",
    )


def _outside(worst: Guarantee, unit: str) -> str:
    if worst.view == View.PARTICIPANT:
        return f"a {unit}'s own site can learn about that {unit}"
    return f"the party that holds the data can learn about a {unit}"


def _beside_central(rows: dict[str, ArmSummary], arm: str) -> tuple[str, ...]:
    """Returns how good the same data are in one place without privacy: the price of ours."""
    central = rows.get("central")
    if central is None or arm == "central":
        return ()
    both = central.headline_name == rows[arm].headline_name
    name, value = (called(central), central.headline) if both else ("accuracy", central.accuracy)
    return (f"All data in one place without any privacy reach {name} {formats.spread(value)}.",)


# -- What left ------------------------------------------------------------------------


def what_left(run: RunResult) -> tuple[str, ...]:
    """Returns everything that a site of this run sent, in words."""
    arm, numbers = ARMS[run.arm], formats.count(run.parameters)
    if not arm.federated:
        return (
            "All records: they were brought together in one place before training. "
            "Nothing stayed behind.",
        )
    masked = run.secure_sum != _NO_SECURE_SUM
    return (
        _vector_sent(run, arm.noise, numbers),
        *(_mask_keys() if masked else ("Once: a message that the site is ready.",)),
        *_counts_sent(run),
    )


def _vector_sent(run: RunResult, noise: Noise, numbers: str) -> str:
    unit, bits = run.statement.unit, run.traffic.ring_bits
    made_of = {
        Noise.NONE: "how local training on all records changed the model, times the site's share "
        "of records, and that share as one number more",
        Noise.EACH_SITE: f"the sum of the clipped gradients of the {unit}s drawn that round, plus "
        "the whole noise",
        Noise.SHARED: f"the sum of the clipped gradients of the {unit}s drawn that round, plus "
        "this site's share of the noise",
    }[noise]
    seen = (
        "It was masked: on its own it looks like chance to everybody, and only the sum over all "
        "sites that answered was opened."
        if run.secure_sum != _NO_SECURE_SUM
        else "It was not masked: the coordinator saw what each site sent."
    )
    return f"Each round: one vector of {numbers} numbers of {bits} bits, {made_of}. {seen}"


def _mask_keys() -> tuple[str, ...]:
    return (
        "Once: a public key, signed by the site.",
        "Each round: encrypted shares of one-time mask keys for the next round, and the answer "
        "that opens the sum of this one. They hold no data.",
    )


def _counts_sent(run: RunResult) -> tuple[str, ...]:
    if run.statement.public:
        return tuple(f"Declared public: {item}." for item in run.statement.public)
    return ("Declared public: the number of training records over all sites.",)


def what_never_left(run: RunResult) -> tuple[str, ...]:
    """Returns what no site of this run sent, in words."""
    arm, unit = ARMS[run.arm], run.statement.unit
    if not arm.federated:
        return ()
    own = "change of the model" if arm.noise is Noise.NONE else "sum of gradients"
    bare = "without its mask" if arm.noise is Noise.NONE else "without noise and mask"
    masked = run.secure_sum != _NO_SECURE_SUM
    if not masked:
        bare = "without noise"
    drawn = (
        f"Which {unit}s were drawn in a round, and how many.",
        f"The gradient of any single {unit}.",
        "The site's noise, and the randomness it came from.",
    )
    return (
        "Images, rows and labels." if run.maps is None else "Images and label maps.",
        f"Names and other identifiers of {unit}s."
        if unit == "patient"
        else "Names and other identifiers.",
        *(drawn if arm.private else ("The gradient of any single record.",)),
        *((f"The site's own {own} {bare}.",) if masked or arm.private else ()),
        "Secret keys, and the site's ledger of charges.",
    )


# -- What it cost ---------------------------------------------------------------------


def price_together(results: Sequence[RunResult]) -> tuple[str, ...]:
    """Returns what holds for whoever sees several models of this report, or its other arms."""
    statements = [run.statement for run in results]
    worst = [worst_view(one) for one in statements if one.private]
    epsilons = [one.epsilon for one in worst if one is not None]
    deltas = [one.delta for one in statements if one.private and one.delta is not None]
    bare = sum(not one.private for one in statements)
    sentences = []
    if len(epsilons) > 1:
        sentences.append(
            f"This report compares {formats.words(len(epsilons), 'private model')} of the same "
            f"{statements[0].unit}s. Whoever sees one of them is bound by its own statement; "
            f"whoever sees all of them by the sum, epsilon "
            f"{formats.epsilon(_total(epsilons))} at delta {formats.delta(_total(deltas))}."
        )
    if bare and epsilons:
        sentences.append(
            f"{formats.words(bare, 'model').capitalize()} in this report "
            f"{'carries' if bare == 1 else 'carry'} no guarantee. Whoever sees such a model, or "
            "its numbers in this report, is outside every bound on this page."
        )
    return tuple(sentences)


def _total(values: Sequence[float]) -> float:
    """Returns the sum as on paper: no digit of binary rounding makes it look larger or smaller."""
    return float(sum(Decimal(repr(value)) for value in values))


def neighbours(statement: Statement) -> str:
    """Returns the neighbouring relation in words."""
    if statement.neighbouring_relation != NEIGHBOURS:
        return statement.neighbouring_relation
    return f"{NEIGHBOURS}: the same training data with one {statement.unit} more or fewer"


def viewer(guarantee: Guarantee) -> str:
    """Returns a heading for a view."""
    names = {View.OUTSIDER.value: "Outsider", View.PARTICIPANT.value: "Curious participant"}
    return names.get(guarantee.view, guarantee.view)


# -- How it was made ------------------------------------------------------------------


def looks_at_test(results: Sequence[RunResult]) -> str:
    """Returns how often anyone looked at the test records."""
    looks, models = sum(run.test_looks for run in results), len(results)
    if all(run.test_looks == 1 for run in results):
        return (
            "once, for the one trained model"
            if models == 1
            else f"once for each of the {formats.words(models, 'trained model')}, "
            f"{formats.count(looks)} looks in all"
        )
    return f"{formats.plural(looks, 'look')} for {formats.words(models, 'trained model')}"
