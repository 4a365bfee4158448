# SPDX-License-Identifier: Apache-2.0
"""Tests of the project file: round trip, every refusal by name, changes for arms, terms."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.federation.conftest import PROJECT, few, make_project

from consilium.errors import ConfigError
from consilium.federation.arms import ARMS
from consilium.federation.project import Project, parse_project

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
ALL_SECTIONS = """
name = "all"
seeds = [3, 4]
[data]
source = "heart"
privacy_unit = "record"
image_size = 32
classes = ["no", "yes"]
[model]
name = "wavelet"
[sites]
count = 7
partition = "dirichlet"
alpha = 0.3
threshold = 5
[optimiser]
name = "adam"
beta1 = 0.8
[learning_rate]
schedule = "step"
initial = 1
every = 3
[training]
rounds = 4
[dp]
target_epsilon = 2.0
delta = 1e-5
expected_batch = 20
[stopping]
patience = 4
budget_epsilon = 1.5
[arms.central.learning_rate]
initial = 0.05
[arms.federated-dp.dp]
accountant = "rdp"
"""

# -- Round trip -----------------------------------------------------------------------


@pytest.mark.parametrize("text", [PROJECT, ALL_SECTIONS, *[path.read_text() for path in RECIPES]])
def test_what_is_resolved_parses_to_the_same_project(text: str) -> None:
    project = parse_project(text)

    assert parse_project(project.resolved()) == project


def test_an_empty_change_survives_the_round_trip() -> None:
    project = parse_project(PROJECT + "[arms.central.training]\n[arms.federated]\n")

    assert parse_project(project.resolved()) == project


@pytest.mark.parametrize("arm", ARMS)
def test_what_an_arm_sees_can_be_written_and_read(arm: str) -> None:
    own = parse_project(ALL_SECTIONS).for_arm(arm)

    assert parse_project(own.resolved()) == own


def test_defaults_are_written_down() -> None:
    resolved = make_project().resolved()

    assert "secure_sum = " in resolved
    assert "l2_clip_norm = " in resolved
    assert "colluders = " in resolved


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses_for_every_arm(path: Path, arm: str) -> None:
    own = parse_project(path.read_text()).for_arm(arm)

    assert own.name == path.stem


# -- Unknown keys ---------------------------------------------------------------------

UNKNOWN = {
    "modle.name": "the project file: unknown key 'modle'; expected 'model'?",
    "data.sorce": "[data]: unknown key 'sorce'; expected 'source'?",
    "sites.cuont": "[sites]: unknown key 'cuont'; expected 'count'?",
    "model.nam": "[model]: unknown key 'nam'; expected 'name'?",
    "optimiser.momentun": "[optimiser]: unknown key 'momentun'; expected 'momentum'?",
    "learning_rate.inital": "[learning_rate]: unknown key 'inital'; expected 'initial'?",
    "training.round": "[training]: unknown key 'round'; expected 'rounds'?",
    "dp.epsilon": "[dp]: unknown key 'epsilon'; expected 'target_epsilon'?",
    "stopping.patients": "[stopping]: unknown key 'patients'; expected 'patience'?",
    "arms.centrl.dp.bits": "[arms.centrl]: unknown arm; expected 'central'?",
    "arms.central.trainig.rounds": "[arms.central.trainig]: unknown section; expected 'training'?",
    "arms.central.training.ronds": "[arms.central.training]: unknown key 'ronds'; expected",
    "zzz": "the project file: unknown key 'zzz'; expected one of arms, data, dp, learning_rate,",
}


@pytest.mark.parametrize("path", UNKNOWN)
def test_an_unknown_key_is_named_with_the_nearest_right_one(path: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(UNKNOWN[path])):
        parse_project(PROJECT, {path: "1"})


@pytest.mark.parametrize(
    "key", ["dpsse_epsilon", "dpsse_delta", "dpsgd", "noise", "max_grad_norm", "sigma", "epsilon"]
)
def test_a_key_of_another_systems_config_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key '{key}'"):
        parse_project(PROJECT, {f"dp.{key}": "1.0"})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("data.privacy_unit", "patients", "privacy_unit is 'patients'; expected 'patient'?"),
        ("sites.partition", "iid", "partition is 'iid'; expected one of column, dirichlet"),
        ("sites.secure_sum", "off", "secure_sum is 'off'; expected one of off-and-the-coord"),
        ("optimiser.name", "adm", "name is 'adm'; expected 'adam'?"),
        ("learning_rate.schedule", "cosin", "schedule is 'cosin'; expected 'cosine'?"),
        ("dp.accountant", "pdl", "accountant is 'pdl'; expected 'pld'?"),
        ("dp.accountant", "1", "accountant is 1; expected one of pld, rdp"),
        ("arms.central.optimiser.name", "sdg", "[arms.central.optimiser]: name is 'sdg'; expected"),
    ],
)
def test_a_word_that_is_no_choice_is_named_with_the_nearest(
    path: str, value: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_project(PROJECT, {path: value})


# -- Types ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "1"),
        ("seeds", "0"),
        ("seeds", "['a']"),
        ("data", "1"),
        ("dp", "false"),
        ("arms", "1"),
        ("arms.central", "1"),
        ("arms.central.training", "1"),
        ("training.rounds", "true"),
        ("training.rounds", "1.5"),
        ("training.rounds", "'ten'"),
        ("learning_rate.initial", "'fast'"),
        ("learning_rate.initial", "1979-05-27"),
        ("arms.central.learning_rate.initial", "1979-05-27"),
        ("data.standardise_each_image", "1"),
        ("data.classes", "'one'"),
        ("name.first", "x"),
        ("", "x"),
    ],
)
def test_a_value_of_another_type_is_refused(path: str, value: str) -> None:
    with pytest.raises(ConfigError):
        parse_project(PROJECT, {path: value})


@pytest.mark.parametrize("missing", ["name", "source", "rounds", "delta", "expected_batch"])
def test_a_missing_setting_is_named(missing: str) -> None:
    lines = [line for line in PROJECT.splitlines() if not line.startswith(missing)]

    with pytest.raises(ConfigError, match=f"missing required field `{missing}`|`name`"):
        parse_project("\n".join(lines))


def test_text_that_is_not_toml_is_refused() -> None:
    with pytest.raises(ConfigError, match="not TOML"):
        parse_project("name = ")


# -- Numbers --------------------------------------------------------------------------

POSITIVE = [
    "training.rounds",
    "training.local_epochs",
    "training.local_batch",
    "training.views",
    "training.evaluate_every",
    "sites.count",
    "learning_rate.initial",
    "stopping.patience",
    "stopping.budget_epsilon",
    "dp.noise_multiplier",
    "dp.delta",
    "dp.l2_clip_norm",
    "dp.expected_batch",
    "dp.patients",
]
REAL = ["learning_rate.initial", "stopping.budget_epsilon", "dp.noise_multiplier", "dp.delta"]


@pytest.mark.parametrize("path", POSITIVE)
@pytest.mark.parametrize("value", ["0", "-1"])
def test_what_must_be_above_zero_is_refused_otherwise(path: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{path} is {value}.*above 0"):
        parse_project(PROJECT, {path: value})


@pytest.mark.parametrize("path", [*REAL, "dp.l2_clip_norm", "dp.expected_batch"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_not_finite_is_refused(path: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{path} is {value}"):
        parse_project(PROJECT, {path: value})


@pytest.mark.parametrize("value", ["1.0", "-0.1", "nan"])
def test_an_average_decay_outside_its_range_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"training.average_decay is .* 0 <= "):
        parse_project(PROJECT, {"training.average_decay": value})


@pytest.mark.parametrize("value", ["[]", "[1, 1]", "[-1]", "[4294967296]"])
def test_seeds_that_repeat_or_are_out_of_range_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="seeds is"):
        parse_project(PROJECT, {"seeds": value})


def test_both_epsilon_and_noise_are_refused() -> None:
    with pytest.raises(ConfigError, match="either target_epsilon or noise_multiplier"):
        parse_project(PROJECT, {"dp.target_epsilon": "1.0"})


def test_neither_epsilon_nor_noise_is_refused() -> None:
    with pytest.raises(ConfigError, match="either target_epsilon or noise_multiplier"):
        parse_project(PROJECT.replace("noise_multiplier = 1.0", ""))


def test_a_change_that_spoils_one_arm_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"training.rounds is -1"):
        parse_project(PROJECT, {"arms.central.training.rounds": "-1"})


# -- Settings that nothing reads ------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("optimiser.name='adam'", "optimiser.momentum=0.9"),
        ("optimiser.name='adam'", "optimiser.nesterov=true"),
        ("optimiser.name='sgd'", "optimiser.beta1=0.9"),
        ("optimiser.name='sgd'", "optimiser.beta2=0.9"),
        ("sites.partition='iid-equal'", "sites.alpha=0.5"),
        ("sites.partition='dirichlet'", "sites.shards_per_site=2"),
        ("sites.partition='label-shards'", "sites.labels_per_site=2"),
        ("sites.partition='column'", "sites.smallest_share=0.1"),
        ("learning_rate.schedule='constant'", "learning_rate.final=0.1"),
        ("learning_rate.schedule='cosine'", "learning_rate.every=3"),
        ("learning_rate.schedule='log-linear'", "learning_rate.factor=0.5"),
        ("learning_rate.schedule='step'", "learning_rate.patience=3"),
    ],
)
def test_a_setting_that_the_chosen_kind_does_not_read_is_refused(kind: str, setting: str) -> None:
    changes = dict(pair.split("=") for pair in (kind, setting))

    with pytest.raises(ConfigError, match="does not read it"):
        parse_project(PROJECT, {"optimiser.name": "adam", **changes})


def test_post_quantum_keys_without_a_secure_sum_are_refused() -> None:
    off = "off-and-the-coordinator-sees-every-update"

    with pytest.raises(ConfigError, match="whose keys it protects"):
        parse_project(PROJECT, {"sites.post_quantum": "true", "sites.secure_sum": off})


# -- Changes --------------------------------------------------------------------------


def test_a_change_replaces_one_setting_and_keeps_the_others() -> None:
    project = make_project(sites__count="7")

    assert project.sites.count == 7
    assert project.sites.colluders == 1


def test_a_bare_word_counts_as_a_string() -> None:
    assert make_project(data__source="heart").data.source == "heart"


def test_another_kind_starts_without_the_settings_of_the_old_one() -> None:
    project = make_project(optimiser__name="adam")

    assert project.optimiser.name == "adam"
    assert project.optimiser.momentum is None


def test_another_kind_under_an_arm_starts_without_the_settings_of_the_old_one() -> None:
    project = parse_project(PROJECT + "[arms.central.optimiser]\nname = 'adam'\n")

    assert project.for_arm("central").optimiser.momentum is None
    assert project.for_arm("federated-dp").optimiser.momentum == 0.5


def test_another_kind_keeps_what_every_kind_reads() -> None:
    project = make_project(sites__colluders="0", sites__partition="dirichlet")

    assert project.sites.count == 4
    assert project.sites.colluders == 0


@pytest.mark.parametrize("path", ["", "arms.federated-dp."])
def test_naming_the_kind_that_is_the_default_changes_nothing(path: str) -> None:
    changes = {f"{path}optimiser.name": "sgd", f"{path}learning_rate.schedule": "constant"}

    own = parse_project(PROJECT, changes).for_arm("federated-dp")

    assert own == make_project().for_arm("federated-dp")


def test_a_new_kind_and_its_settings_may_come_one_after_the_other() -> None:
    project = make_project(learning_rate__schedule="step", learning_rate__every="4")

    assert project.learning_rate.every == 4
    assert project.learning_rate.initial == 0.5


def test_changes_of_one_arm_leave_the_others_alone() -> None:
    project = make_project(arms__central__training__rounds="9")

    assert project.for_arm("central").training.rounds == 9
    assert project.for_arm("central-dp").training.rounds == 3


def test_an_unknown_arm_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'federated-dq' is unknown; expected 'federated-dp'"):
        make_project().for_arm("federated-dq")


# -- Terms ----------------------------------------------------------------------------

MATTERS = [
    ("name", "other"),
    ("seeds", "[1]"),
    ("data.source", "elsewhere"),
    ("data.privacy_unit", "record"),
    ("data.mean", "0.4"),
    ("data.classes_are_ordered", "true"),
    ("data.reader", "reader.csv"),
    ("model.name", "wavelet"),
    ("sites.count", "5"),
    ("sites.colluders", "0"),
    ("sites.tolerated_drops", "0"),
    ("sites.threshold", "4"),
    ("sites.post_quantum", "true"),
    ("optimiser.momentum", "0.4"),
    ("optimiser.nesterov", "true"),
    ("learning_rate.initial", "0.4"),
    ("learning_rate.schedule", "cosine"),
    ("training.rounds", "4"),
    ("training.average_decay", "0.5"),
    ("training.views", "2"),
    ("training.class_weights", "[1.0, 2.0]"),
    ("dp.noise_multiplier", "1.1"),
    ("dp.delta", "1e-4"),
    ("dp.l2_clip_norm", "1.1"),
    ("dp.expected_batch", "11"),
    ("dp.bits", "20"),
    ("dp.accountant", "pld"),
    ("stopping.budget_epsilon", "9.0"),
    ("arms.federated-dp.training.local_batch", "31"),
]


@pytest.mark.parametrize(("path", "value"), MATTERS)
def test_terms_change_with_every_setting(path: str, value: str) -> None:
    changed = parse_project(PROJECT, {path: value})

    assert changed.terms("federated-dp") != make_project().terms("federated-dp")


def test_terms_of_two_arms_differ() -> None:
    assert len({make_project().terms(arm) for arm in ARMS}) == len(ARMS)


def test_terms_do_not_change_with_another_arms_settings() -> None:
    changed = make_project(arms__central__training__rounds="9")

    assert changed.terms("federated-dp") == make_project().terms("federated-dp")


@few
@given(st.permutations(PROJECT.strip().split("\n[")[1:]))
def test_terms_do_not_depend_on_the_order_of_sections(sections: list[str]) -> None:
    shuffled = parse_project("\n[".join(['name = "test"', *sections]))

    assert shuffled.terms("federated-dp") == make_project().terms("federated-dp")


@pytest.mark.parametrize(
    ("path", "value"),
    [("learning_rate.initial", "5e-1"), ("dp.expected_batch", "10.0"), ("dp.bits", "16")],
)
def test_terms_do_not_depend_on_spelling_or_on_a_default_written_out(path: str, value: str) -> None:
    same = parse_project(PROJECT, {path: value})

    assert same.terms("federated-dp") == make_project().terms("federated-dp")


def test_terms_survive_the_round_trip() -> None:
    project = parse_project(ALL_SECTIONS)

    again: Project = parse_project(project.resolved())

    assert [again.terms(arm) for arm in ARMS] == [project.terms(arm) for arm in ARMS]


def test_a_loss_of_label_maps_is_refused_for_classes() -> None:
    with pytest.raises(ConfigError, match="'classification' does not read it"):
        parse_project(PROJECT, {"training.loss": "dice"})


@pytest.mark.parametrize(
    ("key", "value"), [("classes_are_ordered", "true"), ("reader", "reader.csv")]
)
def test_what_label_maps_do_not_read_is_refused(key: str, value: str) -> None:
    maps = {"data.task": "segmentation", f"data.{key}": value}

    with pytest.raises(ConfigError, match="'segmentation' does not read it"):
        parse_project(PROJECT, maps)
