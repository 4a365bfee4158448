# SPDX-License-Identifier: Apache-2.0
"""The data of an experiment: read, checked, divided among sites and turned into tensors."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from consilium.adapters.machine import compute_device
from consilium.adapters.pretrained import read_weights, weights_path
from consilium.data.duplicates import find_duplicates
from consilium.data.partition import (
    ByColumn,
    Dirichlet,
    IidEqual,
    IidUnequal,
    LabelShards,
    LabelsPerSite,
    Partition,
    partition,
    site_names,
)
from consilium.data.reader_answers import Answers, read_answers
from consilium.data.records import Records, Splits
from consilium.data.sources import read_splits
from consilium.errors import DataError
from consilium.federation.contribution import Trainee
from consilium.federation.project import Data, Model, Project, Sites
from consilium.federation.setup import PublicFacts
from consilium.learning.augmentation import view, view_of_maps
from consilium.learning.fresh_views import Step, augmented
from consilium.learning.front_end import apply_front_end, split_front_end
from consilium.learning.models.registry import build
from consilium.learning.parameters import dimension
from consilium.learning.preprocessing import Preprocessing
from consilium.learning.tasks import Classification, Segmentation, Task
from consilium.learning.transfer import Fitting, check_frozen, fit_weights, train_only
from consilium.wire import digest

_BY_LABEL: Final = ("label-shards", "labels-per-site", "dirichlet")  # may leave a class out


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Three patient-disjoint splits and what was found when they were compared.

    Attributes:
        splits: The records.
        duplicates: Copies between splits, in one line for people.
        answers: Of a human reader for test records, if the project names a file of them.
    """

    splits: Splits
    duplicates: str
    answers: Answers | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """What a project computes on its records; the attributes are those of `Ready`."""

    model: nn.Module = field(repr=False)
    trained: nn.Module = field(repr=False)
    front_end: nn.Module = field(repr=False)
    task: Task
    fitting: Fitting | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """One arm's model and records, ready to compute on.

    Attributes:
        model: The whole network with its first weights.
        trained: The part of it whose weights are trained; shares them with `model`.
        front_end: The part before that, fixed.
        parts: The records of each site.
        names: Of the sites.
        preprocessing: Public and fixed.
        task: What is learnt.
        views: Of each training image.
        fitting: What became of the weights that the project names, if it names any.
        steps: Of augmentation, anew in every round; none: the views are made once.
        seed: Of the experiment.
    """

    model: nn.Module = field(repr=False)
    trained: nn.Module = field(repr=False)
    front_end: nn.Module = field(repr=False)
    parts: tuple[Records, ...]
    names: tuple[str, ...]
    preprocessing: Preprocessing
    task: Task
    views: int
    fitting: Fitting | None = None
    steps: tuple[Step, ...] = ()
    seed: int = 0

    def features(self, records: Records) -> tuple[Tensor, Tensor]:
        """Returns what the trained part sees of `records`, and their labels or label maps."""
        inputs, labels = self.preprocessing.tensors(records)
        return apply_front_end(self.front_end, inputs), labels

    def own_model(self) -> nn.Module:
        """Returns a copy of the trained part, on the device that computes."""
        return copy.deepcopy(self.trained).to(compute_device())

    def trainee(self, site: int) -> Trainee:
        """Returns the records of `site` with a model of its own."""
        part = self.parts[site]
        images, labels = self.preprocessing.tensors(part)
        if self.steps:
            return Trainee(
                model=self.own_model(),
                task=self.task,
                inputs=apply_front_end(self.front_end, images),
                labels=labels,
                rows=part.by_patient(),
                fresh=_Fresh(self, part, self.views),
                seed=self.seed,
            )
        views = [apply_front_end(self.front_end, view(images, k)) for k in range(self.views)]
        return Trainee(
            model=self.own_model(),
            task=self.task,
            inputs=torch.cat(views),
            labels=torch.cat([view_of_maps(images, labels, k) for k in range(self.views)]),
            rows=tuple(_of_every_view(rows, len(part), self.views) for rows in part.by_patient()),
        )


@final
@dataclass(frozen=True, slots=True)
class _Fresh:
    """Augmented views of one site's records."""

    ready: Ready
    part: Records
    views: int

    def __call__(self, rows: NDArray[np.intp], key: bytes) -> tuple[Tensor, Tensor]:
        """Returns inputs and labels of every view of the records at `rows`, view by view."""
        made = [self._view(rows, digest("view", number, key)) for number in range(self.views)]
        return torch.cat([inputs for inputs, _ in made]), torch.cat([labels for _, labels in made])

    def _view(self, rows: NDArray[np.intp], key: bytes) -> tuple[Tensor, Tensor]:
        images, labels = self.part.inputs[rows], self.part.targets[rows]
        maps = labels.astype(np.uint8, copy=False) if self.part.has_label_maps else None
        shown, moved = augmented(images.astype(np.uint8), maps, self.ready.steps, key)
        inputs = apply_front_end(self.ready.front_end, self.ready.preprocessing.inputs(shown))
        return inputs, torch.from_numpy(labels if moved is None else moved)


def _of_every_view(rows: NDArray[np.intp], records: int, views: int) -> NDArray[np.intp]:
    """Returns where a patient's records are when the views stand one after another."""
    return np.concatenate([rows + k * records for k in range(views)])


def read_dataset(settings: Data, folder: Path | None) -> Dataset:
    """Returns the dataset that a project names, its splits compared for copies.

    Raises:
        DataError: It is missing, damaged, or breaks a rule (see `consilium.data`).
    """
    splits = read_named(settings, folder)
    return Dataset(
        splits=splits,
        duplicates=find_duplicates(splits).summary(),
        answers=_answers(settings, folder, splits),
    )


def _answers(settings: Data, folder: Path | None, splits: Splits) -> Answers | None:
    if settings.reader is None:
        return None
    path = Path(settings.reader) if folder is None else folder / settings.reader
    return read_answers(path, splits.test, splits.classes)


def read_named(settings: Data, folder: Path | None) -> Splits:
    """Returns the splits that a project names, with its own class names if it has them.

    Raises:
        DataError: It is missing, damaged, or breaks a rule (see `consilium.data`).
    """
    splits = read_splits(
        settings.source, folder, image_size=settings.image_size, unit=settings.privacy_unit
    )
    if settings.classes is not None:
        if len(settings.classes) != len(splits.classes):
            raise DataError(
                f"data.classes names {len(settings.classes)} classes; {settings.source} has "
                f"{len(splits.classes)}: name each of {', '.join(splits.classes)} once"
            )
        splits = replace(splits, classes=settings.classes)
    return splits


def make_networks(
    project: Project,
    *,
    shape: tuple[int, ...],
    classes: int,
    seed: int,
    weights: Mapping[str, Tensor] | None = None,
) -> Networks:
    """Returns the model, with first weights of `seed`, and the task for records of `shape`.

    Args:
        project: As the arm sees it.
        shape: Of a record.
        classes: How many.
        seed: Of the first weights.
        weights: What the project begins with; None leaves those of the seed, in the same model
            with the same parameters frozen.

    Raises:
        DataError: The weights are no finite numbers.
        ConfigError: There is no such model for such data, or the weights do not fit it.
    """
    model = build(
        project.model.name,
        shape=shape,
        classes=classes,
        seed=seed,
        label_maps=project.data.task == "segmentation",
    )
    fitting = None if weights is None else fit_weights(model, weights)
    train_only(model, project.model.train)
    if fitting is not None:
        check_frozen(model, fitting)
    front_end, trained = split_front_end(model, shape)
    task = _task(project, classes)
    return Networks(model=model, trained=trained, front_end=front_end, task=task, fitting=fitting)


def make_ready(
    project: Project,
    dataset: Dataset,
    *,
    federated: bool,
    seed: int,
    folder: Path | None = None,
) -> Ready:
    """Returns the model and the records of an arm.

    Args:
        project: As the arm sees it.
        dataset: Of the project.
        federated: Data are divided among the sites, else they are one site's.
        seed: Of the division and the first weights.
        folder: Where a file of weights lies; None takes its path as it is.

    Raises:
        DataError: The data cannot be divided so, or the weights cannot be used.
        ConfigError: There is no such model for such data, or the weights do not fit it.
    """
    splits, settings = dataset.splits, project.data
    _check_task(settings, splits)
    parts = _divide(splits, project.sites, seed) if federated else (splits.train,)
    networks = make_networks(
        project,
        shape=splits.train.shape,
        classes=len(splits.classes),
        seed=seed,
        weights=_weights(project.model, folder),
    )
    preprocessing = Preprocessing(
        mean=settings.mean,
        std=settings.std,
        standardise_each_image=settings.standardise_each_image,
    )
    return Ready(
        model=networks.model,
        trained=networks.trained,
        front_end=networks.front_end,
        parts=tuple(parts),
        names=site_names(parts) if federated else ("all data",),
        preprocessing=preprocessing,
        task=networks.task,
        views=project.training.views,
        fitting=networks.fitting,
        steps=_steps(project, splits.train),
        seed=seed,
    )


def _steps(project: Project, records: Records) -> tuple[Step, ...]:
    """Returns the steps of augmentation, which only images can take."""
    steps = tuple(one.step() for one in project.training.augmentation)
    if steps and len(records.shape) != 3:
        raise DataError(
            f"training.augmentation is set for records of shape {records.shape}; expected images "
            "(channels, height, width): remove it for tables and volumes"
        )
    return steps


def _weights(settings: Model, folder: Path | None) -> dict[str, Tensor] | None:
    """Returns the weights that a project begins with, if it names any."""
    if settings.weights is None or settings.weights_sha256 is None:
        return None
    return read_weights(weights_path(settings.weights, folder), settings.weights_sha256)


def _task(project: Project, classes: int) -> Task:
    weights = project.training.class_weights
    if project.data.task == "segmentation":
        return Segmentation(classes, project.training.loss or "dice-ce", weights)
    return Classification(classes, weights)


def _check_task(settings: Data, splits: Splits) -> None:
    found = "segmentation" if splits.train.has_label_maps else "classification"
    if settings.task != found:
        raise DataError(
            f"data.task is {settings.task!r}; {settings.source} has "
            f"{'a label map for each image' if found == 'segmentation' else 'a class a record'}: "
            f"set data.task = {found!r}"
        )


def public_facts(ready: Ready) -> PublicFacts:
    """Returns the counts that everybody may know."""
    return PublicFacts(
        patients=sum(part.patient_count for part in ready.parts),
        records=ready.views * sum(len(part) for part in ready.parts),
        dimension=dimension(ready.trained),
    )


def make_partition(settings: Sites) -> Partition:
    """Returns the division that the settings name, with its defaults where they are silent."""
    match settings.partition:
        case "iid-equal":
            return IidEqual()
        case "iid-unequal":
            share = settings.smallest_share
            return IidUnequal(0.3 / settings.count if share is None else share)
        case "label-shards":
            shards = settings.shards_per_site
            return LabelShards(2 if shards is None else shards)
        case "labels-per-site":
            labels = settings.labels_per_site
            return LabelsPerSite(1 if labels is None else labels)
        case "dirichlet":
            return Dirichlet(0.5 if settings.alpha is None else settings.alpha)
        case "column":
            return ByColumn()


def _divide(splits: Splits, settings: Sites, seed: int) -> Sequence[Records]:
    classes = len(splits.classes)
    parts = partition(
        splits.train, make_partition(settings), sites=settings.count, seed=seed, classes=classes
    )
    if settings.partition not in _BY_LABEL and settings.missing_classes == "refuse":
        _check_classes(parts, splits.classes)
    return parts


def _check_classes(parts: Sequence[Records], classes: tuple[str, ...]) -> None:
    for name, part in zip(site_names(parts), parts, strict=True):
        absent = [classes[k] for k, n in enumerate(part.class_counts(len(classes))) if not n]
        if absent:
            raise DataError(
                f"{name} has no record of class {', '.join(absent)}; expected every class at "
                'every site: add data, use fewer sites, or set sites.missing_classes = "allow"'
            )
