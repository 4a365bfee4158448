# SPDX-License-Identifier: Apache-2.0
"""Tests of the sentences: true to the statement, right for each arm, unit and number of classes."""

from collections.abc import Callable

import msgspec
import pytest

from consilium.federation.results import RunResult
from consilium.web import wording

MakeResult = Callable[..., RunResult]
MakeResults = Callable[..., list[RunResult]]


def summary(*results: RunResult) -> str:
    return " ".join(wording.summary(results, results[0]))


# -- Summary --------------------------------------------------------------------------


def test_the_summary_says_who_how_good_and_how_private(make_result: MakeResult) -> None:
    found = summary(make_result())

    assert "Three sites trained one model on 300 patients (900 records) without any rec" in found
    assert "reaches AUC .937 (95 % CI .917 to .957) on 624 test records of 427 patients" in found
    assert "bounded by epsilon 2.60 at delta 0.00001" in found
    assert "right at most 93.1" in found


def test_the_summary_tells_what_a_high_auc_hides(make_result: MakeResult) -> None:
    found = summary(make_result())

    assert "99 of 100 records of class ill and 39 of 100 of class normal" in found


def test_several_seeds_are_a_mean_with_its_deviation(make_result: MakeResult) -> None:
    found = summary(make_result(auc=0.90), make_result(seed=1, auc=0.94))

    assert ".920 \N{PLUS-MINUS SIGN} .028 over two seeds (95 % CI .880 to .920, seed 0)" in found


def test_without_an_auc_the_accuracy_stands_in(make_result: MakeResult) -> None:
    found = summary(make_result(auc=None, classes=("a", "b", "c")))

    assert "reaches accuracy .800 (95 % CI .750 to .850)" in found
    assert "cut-off" not in found


def test_a_model_without_a_guarantee_is_said_to_have_none(make_result: MakeResult) -> None:
    found = summary(make_result("central"))

    assert "One party that holds all data" in found
    assert "no guarantee: nothing bounds what it reveals about a patient" in found
    assert "epsilon" not in found


def test_the_price_of_privacy_is_put_beside_it(make_result: MakeResult) -> None:
    found = summary(make_result(), make_result("central", auc=0.95))

    assert "All data in one place without any privacy reach AUC .950." in found


def test_with_records_as_unit_no_patient_is_promised_anything(make_result: MakeResult) -> None:
    assert "patient" not in summary(make_result(unit="record"))


def test_one_party_is_not_called_a_site(make_result: MakeResult) -> None:
    central = make_result("central-dp")
    outsider = msgspec.structs.replace(
        central.statement, guarantees=central.statement.guarantees[:1]
    )
    found = summary(msgspec.structs.replace(central, statement=outsider))

    assert "anyone outside the party that holds the data can learn about a patient" in found


# -- What left ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arm", "phrase"),
    [
        ("federated-dp", "plus this site's share of the noise. It was masked"),
        ("federated-local-dp", "plus the whole noise. It was masked"),
        ("federated", "how local training on all records changed the model"),
        ("central", "All records"),
        ("central-dp", "All records"),
    ],
)
def test_what_left_is_named_for_each_arm(make_result: MakeResult, arm: str, phrase: str) -> None:
    assert phrase in wording.what_left(make_result(arm))[0]


def test_without_a_secure_sum_the_coordinator_is_said_to_see(make_result: MakeResult) -> None:
    bare = msgspec.structs.replace(make_result("federated"), secure_sum="none")

    assert "not masked: the coordinator saw" in wording.what_left(bare)[0]
    assert not any("own change" in item for item in wording.what_never_left(bare))


def test_a_bare_sum_never_leaves_where_noise_was_added(make_result: MakeResult) -> None:
    bare = msgspec.structs.replace(make_result("federated-local-dp"), secure_sum="none")

    assert "The site's own sum of gradients without noise." in wording.what_never_left(bare)


def test_where_all_data_were_brought_together_nothing_stayed(make_result: MakeResult) -> None:
    assert wording.what_never_left(make_result("central")) == ()


# -- What it cost ---------------------------------------------------------------------


def test_prices_of_several_models_add_up(make_result: MakeResult) -> None:
    (found,) = wording.price_together([make_result(epsilon=2.59), make_result(epsilon=2.59)])

    assert "two private models of the same patients" in found
    assert "epsilon 5.18 at delta 0.00002" in found


def test_models_without_a_guarantee_are_outside_every_bound(make_result: MakeResult) -> None:
    (found,) = wording.price_together([make_result(), make_result("central")])

    assert "One model in this report carries no guarantee" in found


@pytest.mark.parametrize("arm", ["federated-dp", "central"])
def test_a_single_model_needs_no_further_word(make_result: MakeResult, arm: str) -> None:
    assert wording.price_together([make_result(arm)]) == ()


def test_an_unknown_relation_is_shown_as_it_is(make_result: MakeResult) -> None:
    strange = msgspec.structs.replace(make_result().statement, neighbouring_relation="REPLACE_ONE")

    assert wording.neighbours(strange) == "REPLACE_ONE"


# -- How it was made ------------------------------------------------------------------


def test_one_look_for_one_model(make_result: MakeResult) -> None:
    assert wording.looks_at_test([make_result()]) == "once, for the one trained model"


def test_one_look_for_each_model(make_results: MakeResults) -> None:
    found = wording.looks_at_test(make_results(seeds=2))

    assert found == "once for each of the ten trained models, 10 looks in all"


def test_more_looks_than_models_are_counted(make_result: MakeResult) -> None:
    twice = msgspec.structs.replace(make_result(), test_looks=3)

    assert wording.looks_at_test([twice]) == "3 looks for one trained model"
