# SPDX-License-Identifier: Apache-2.0
"""The project file: everything that was agreed, typed and checked; nothing silently ignored.

A project is TOML. An unknown key is an error that names the nearest right one; a section may
be changed for one arm under `[arms.ARM.SECTION]`. `resolved` writes every setting down, also
those left at their default, and `terms` is the digest that binds them into the keys of the
secure sum.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias, get_args, get_origin

import msgspec
import tomli_w

from consilium.errors import ConfigError
from consilium.federation.arms import ARMS
from consilium.learning.fresh_views import Step
from consilium.learning.transfer import ALL, FROM, KINDS
from consilium.wire import digest

Value: TypeAlias = "str | int | float | bool | Sequence[Value] | Mapping[str, Value]"
Table: TypeAlias = Mapping[str, Value]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the project file. Its fields are the keys that may stand there."""


class Data(Section, frozen=True, kw_only=True):
    """What is learnt, from what, and whose loss is bounded."""

    source: str
    task: Literal["classification", "segmentation"] = "classification"
    privacy_unit: Literal["patient", "record"] = "patient"
    image_size: int | None = None
    classes: tuple[str, ...] | None = None
    classes_are_ordered: bool = False
    standardise_each_image: bool = False
    mean: float = 0.5
    std: float = 0.25
    reader: str | None = None
    test_pictures: Literal["none", "test-records-are-public"] = "none"


class Sites(Section, frozen=True, kw_only=True):
    """Who takes part, how the data lie, and what the secure sum tolerates."""

    count: int = 10
    partition: Literal[
        "iid-equal", "iid-unequal", "label-shards", "labels-per-site", "dirichlet", "column"
    ] = "iid-equal"
    smallest_share: float | None = None
    shards_per_site: int | None = None
    labels_per_site: int | None = None
    alpha: float | None = None
    missing_classes: Literal["refuse", "allow"] = "refuse"
    threshold: int | None = None
    tolerated_drops: int | None = None
    colluders: int = 1
    secure_sum: Literal["on", "off-and-the-coordinator-sees-every-update"] = "on"
    post_quantum: bool = False


class Model(Section, frozen=True, kw_only=True):
    """Which network, by its name in the registry; what it starts from, what of it is trained."""

    name: str
    weights: str | None = None
    weights_sha256: str | None = None
    train: str = ALL


class Optimiser(Section, frozen=True, kw_only=True):
    """How a gradient becomes a step: at the coordinator with DP, at the sites without."""

    name: Literal["sgd", "adam"] = "sgd"
    momentum: float | None = None
    nesterov: bool | None = None
    beta1: float | None = None
    beta2: float | None = None


class LearningRate(Section, frozen=True, kw_only=True):
    """The learning rate of every round."""

    schedule: Literal["constant", "step", "cosine", "log-linear", "warm-restarts", "plateau"] = (
        "constant"
    )
    initial: float = 0.1
    final: float | None = None
    every: int | None = None
    factor: float | None = None
    patience: int | None = None


class Augmentation(Section, frozen=True, kw_only=True):
    """One step of augmentation; see `learning.fresh_views.Step`."""

    name: str
    probability: float = 0.5
    amount: float | None = None

    def step(self) -> Step:
        """Returns the step, checked.

        Raises:
            ConfigError: There is none such, or a number is out of range.
        """
        return Step(name=self.name, probability=self.probability, amount=self.amount)


class Training(Section, frozen=True, kw_only=True):
    """How long, and what a round is in the arms without DP."""

    rounds: int
    loss: Literal["dice", "dice-ce"] | None = None
    class_weights: tuple[float, ...] = ()
    local_epochs: int = 1
    local_batch: int = 32
    views: int = 1
    augmentation: tuple[Augmentation, ...] = ()
    average_decay: float = 0.0
    evaluate_every: int = 5


class Dp(Section, frozen=True, kw_only=True):
    """The guarantee. Exactly one of `target_epsilon` and `noise_multiplier`."""

    target_epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float
    l2_clip_norm: float = 1.0
    expected_batch: float
    patients: int | None = None
    bits: int = 16
    accountant: Literal["pld", "rdp"] = "pld"


class Stopping(Section, frozen=True, kw_only=True):
    """When to stop before the last round."""

    patience: int | None = None
    budget_epsilon: float | None = None


class Project(Section, frozen=True, kw_only=True):
    """A checked project. `for_arm` applies what `[arms.NAME]` changes."""

    name: str
    data: Data
    model: Model
    training: Training
    sites: Sites = Sites()
    optimiser: Optimiser = Optimiser()
    learning_rate: LearningRate = LearningRate()
    dp: Dp | None = None
    stopping: Stopping = Stopping()
    seeds: tuple[int, ...] = (0,)
    arms: dict[str, dict[str, dict[str, object]]] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)

    def for_arm(self, arm: str) -> "Project":
        """Returns the project as `arm` sees it.

        Raises:
            ConfigError: There is no such arm, or its changes do not fit.
        """
        if arm not in ARMS:
            raise ConfigError(f"arm {arm!r} is unknown; expected {_nearest(arm, ARMS)}")
        own = msgspec.to_builtins(self)
        changes = own.pop("arms").get(arm, {})
        return _convert(_merge(own, changes))

    def resolved(self) -> str:
        """Returns the whole project as TOML, defaults included."""
        return tomli_w.dumps(_without_none(msgspec.to_builtins(self)))

    def terms(self, arm: str) -> bytes:
        """Returns the digest of everything that `arm` of this project does, 32 bytes."""
        seen = msgspec.to_builtins(self.for_arm(arm))
        return digest("project", arm, msgspec.json.encode(seen, order="sorted"))


_SECTIONS: Final[Mapping[str, type[Section]]] = {
    "data": Data,
    "model": Model,
    "training": Training,
    "sites": Sites,
    "optimiser": Optimiser,
    "learning_rate": LearningRate,
    "dp": Dp,
    "stopping": Stopping,
}

_SHA256: Final = re.compile("[0-9a-fA-F]{64}")
_KIND_KEYS: Final = {"sites": "partition", "optimiser": "name", "learning_rate": "schedule"}
_READ_BY: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "sites": {
        "smallest_share": frozenset({"iid-unequal"}),
        "shards_per_site": frozenset({"label-shards"}),
        "labels_per_site": frozenset({"labels-per-site"}),
        "alpha": frozenset({"dirichlet"}),
    },
    "optimiser": {
        "momentum": frozenset({"sgd"}),
        "nesterov": frozenset({"sgd"}),
        "beta1": frozenset({"adam"}),
        "beta2": frozenset({"adam"}),
    },
    "learning_rate": {
        "final": frozenset({"cosine", "log-linear", "warm-restarts", "plateau"}),
        "every": frozenset({"step", "warm-restarts"}),
        "factor": frozenset({"step", "plateau"}),
        "patience": frozenset({"plateau"}),
    },
}


def parse_project(text: str, changes: Mapping[str, str] | None = None) -> Project:
    """Returns the project in `text`.

    Args:
        text: TOML.
        changes: Settings to replace, "section.key" -> a TOML value ("training.rounds" -> "30";
            a bare word counts as a string).

    Raises:
        ConfigError: Not TOML, an unknown key, a wrong type or an impossible value, also in what
            an arm changes.
    """
    try:
        table: Table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"project file is not TOML: {error}") from None
    for path, value in (changes or {}).items():
        table = _merge(table, _nested(path.split("."), _toml_value(value)))
    project = _convert(table)
    for arm in project.arms:
        project.for_arm(arm)
    return project


# -- Keys -----------------------------------------------------------------------------


def _convert(table: Table) -> Project:
    _check_keys(table, Project, where="the project file")
    for name, kind in _SECTIONS.items():
        section = table.get(name)
        if isinstance(section, Mapping):
            _check_keys(section, kind, where=f"[{name}]")
    _check_arm_tables(table.get("arms", {}))
    try:
        return msgspec.convert(table, Project, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"project file: {_plain(str(error))}") from None


def _check_arm_tables(arms: Value) -> None:
    if not isinstance(arms, Mapping):
        raise ConfigError("[arms] holds one table an arm, such as [arms.central.training]")
    for arm, sections in arms.items():
        if arm not in ARMS:
            raise ConfigError(f"[arms.{arm}]: unknown arm; expected {_nearest(arm, ARMS)}")
        if not isinstance(sections, Mapping):
            raise ConfigError(f"[arms.{arm}] holds sections, such as [arms.{arm}.training]")
        for name, section in sections.items():
            if name not in _SECTIONS or not isinstance(section, Mapping):
                raise ConfigError(
                    f"[arms.{arm}.{name}]: unknown section; expected {_nearest(name, _SECTIONS)}"
                )
            _check_keys(section, _SECTIONS[name], where=f"[arms.{arm}.{name}]")


def _check_keys(table: Table, kind: type[Section], *, where: str) -> None:
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        if key not in types:
            raise ConfigError(f"{where}: unknown key {key!r}; expected {_nearest(key, types)}")
        choices = get_args(types[key]) if get_origin(types[key]) is Literal else ()
        if choices and value not in choices:
            raise ConfigError(
                f"{where}: {key} is {value!r}; expected {_nearest(str(value), choices)}"
            )


def _nearest(word: str, known: Mapping[str, object] | Sequence[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"{close[0]!r}?" if close else "one of " + ", ".join(sorted(known))


def _plain(message: str) -> str:
    """msgspec's words for where it is, in ours."""
    return message.replace(" - at `$.", " at `").replace("`$`", "the top")


def _merge(base: Table, changes: Table) -> dict[str, Value]:
    """Returns `base` with `changes`; where a section changes its kind, the old kind's go."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(_of_every_kind(key, old, value), value)
        else:
            merged[key] = value
    return merged


def _of_every_kind(section: str, old: Table, changes: Table) -> Table:
    """Returns `old` without what only some kinds of `section` read, if `changes` names another."""
    key = _KIND_KEYS.get(section)
    if key is None or key not in changes:
        return old
    if changes[key] == old.get(key, getattr(_SECTIONS[section](), key)):
        return old
    return {name: value for name, value in old.items() if name not in _READ_BY[section]}


def _nested(path: Sequence[str], value: Value) -> Table:
    return {path[0]: _nested(path[1:], value) if len(path) > 1 else value}


def _toml_value(text: str) -> Value:
    try:
        value: Value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value


def _without_none(table: dict[str, object]) -> dict[str, object]:
    """TOML has no null: what is not set is not written."""
    return {key: _kept(value) for key, value in table.items() if value is not None}


def _kept(value: object) -> object:
    if isinstance(value, dict):
        return _without_none(value)
    return [_kept(one) for one in value] if isinstance(value, list | tuple) else value


# -- Values ---------------------------------------------------------------------------


_POSITIVE: Final[Mapping[str, tuple[str, ...]]] = {  # where they are set at all
    "training": ("rounds", "local_epochs", "local_batch", "views", "evaluate_every"),
    "sites": ("count",),
    "learning_rate": ("initial",),
    "stopping": ("patience", "budget_epsilon"),
    "dp": (
        "target_epsilon",
        "noise_multiplier",
        "l2_clip_norm",
        "expected_batch",
        "delta",
        "patients",
    ),
}


def _check(project: Project) -> None:
    for name, keys in _POSITIVE.items():
        for key in keys:
            _check_positive(f"{name}.{key}", getattr(getattr(project, name), key, None))
    _check_within("training.average_decay", project.training.average_decay, 0, 1)
    for name, section in (
        ("sites", project.sites),
        ("optimiser", project.optimiser),
        ("learning_rate", project.learning_rate),
    ):
        _check_used(name, section)
    _check_task(project)
    _check_model(project.model)
    _check_augmentation(project.training)
    if project.sites.post_quantum and project.sites.secure_sum != "on":
        raise ConfigError(
            "sites.post_quantum is set but sites.secure_sum is off; expected it only with the "
            "secure sum, whose keys it protects: remove it or turn sites.secure_sum on"
        )
    if not project.seeds or len(set(project.seeds)) < len(project.seeds):
        raise ConfigError(f"seeds is {list(project.seeds)}; expected one or more, all different")
    for seed in project.seeds:
        _check_within("seeds", seed, 0, 2**32)
    if project.dp is not None:
        _check_dp(project.dp)


def _check_task(project: Project) -> None:
    """Refuses what only label maps would read."""
    if project.data.task == "classification" and project.data.test_pictures != "none":
        raise ConfigError(
            "data.test_pictures is set but data.task 'classification' has none to show; expected "
            "it only with 'segmentation': remove it or change data.task"
        )
    for key, given in (
        ("classes_are_ordered", project.data.classes_are_ordered),
        ("reader", project.data.reader is not None),
    ):
        if project.data.task == "segmentation" and given:
            raise ConfigError(
                f"data.{key} is set but data.task 'segmentation' does not read it; expected it "
                "only with 'classification': remove it or change data.task"
            )
    if project.data.task == "classification" and project.training.loss is not None:
        raise ConfigError(
            f"training.loss is {project.training.loss!r} but data.task 'classification' does not "
            "read it; expected it only with 'segmentation': remove it or change data.task"
        )


def _check_augmentation(training: Training) -> None:
    for one in training.augmentation:
        one.step()


def _check_model(model: Model) -> None:
    """Refuses weights without their digest, and frozen layers without weights."""
    if (model.weights is None) != (model.weights_sha256 is None):
        raise ConfigError(
            "[model]: weights and weights_sha256 go together; expected both: the digest (of "
            "sha256sum, say) binds every party to one file"
        )
    if model.weights_sha256 is not None and not _SHA256.fullmatch(model.weights_sha256):
        raise ConfigError(
            f"model.weights_sha256 is {model.weights_sha256!r}; expected 64 hexadecimal digits"
        )
    if model.train not in KINDS[:-1] and not model.train.startswith(FROM):
        raise ConfigError(f"model.train is {model.train!r}; expected one of {', '.join(KINDS)}")
    if model.train != ALL and model.weights is None:
        raise ConfigError(
            f"model.train is {model.train!r} without model.weights; expected weights: layers that "
            "are frozen at random learn nothing"
        )


def _check_used(name: str, section: Section) -> None:
    """Refuses a setting that the chosen kind would not read."""
    kind_key = _KIND_KEYS[name]
    kind = getattr(section, kind_key)
    for key, readers in _READ_BY[name].items():
        if getattr(section, key) is not None and kind not in readers:
            raise ConfigError(
                f"{name}.{key} is set but {kind_key} {kind!r} does not read it; expected it only "
                f"with {' or '.join(sorted(readers))}: remove it or change {name}.{kind_key}"
            )


def _check_dp(dp: Dp) -> None:
    if (dp.target_epsilon is None) == (dp.noise_multiplier is None):
        raise ConfigError("[dp]: give either target_epsilon or noise_multiplier, and only one")


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} is {value}; expected a finite number above 0")


def _check_within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise ConfigError(f"{name} is {value}; expected {low} <= {name} < {high}")
