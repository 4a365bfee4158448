# SPDX-License-Identifier: Apache-2.0
"""Training images augmented by MONAI's transforms, anew in every round; label maps move along.

A step is named, with public parameters, by the project. What it draws comes from a hash of the
round's key, the view's number and the image's own pixels: a function of the experiment, never of
the privacy coins, and a patient's views do not depend on who else takes part, which neighbouring
datasets need. So a private step may average the gradient over all views of a patient and clip
that mean once: views cost time and no privacy (De et al. 2022, arXiv:2204.13650v2, section 3.2).

Images come and go as uint8, as if they had been stored so: preprocessing follows, the same as
ever. Not for looking at: validation and test images are never augmented.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from consilium.errors import ConfigError

Images: TypeAlias = NDArray[np.uint8]  # (n, channels, height, width)
Maps: TypeAlias = NDArray[np.uint8]  # (n, height, width)
_Pair: TypeAlias = dict[str, Tensor]  # "image" (c, h, w) from 0 to 1 and "map" (1, h, w)
_Transform: TypeAlias = Any  # monai's; it is loaded when the first image is augmented

TURN: Final = math.radians(10)  # of `affine` at amount 1, either way, as are the next two
SHIFT: Final = 0.08  # of the image's height and width
ZOOM: Final = 0.12  # of its size
_TAG: Final = b"consilium fresh view 1"
_BOTH: Final = ("image", "map")
_MODES: Final = ("bilinear", "nearest")
_WHITE: Final = 255.0
_GRID: Final = 4  # control points of `elastic` along a side
_META = threading.Lock()  # MONAI's switch is one for the whole process

_WHY_NOT: Final[Mapping[str, str]] = {
    "mixup": "it averages two patients, so that no gradient is one patient's and no clip bounds "
    "what one adds: refused with and without privacy, so that a project means one thing everywhere",
    "clahe": "MONAI has none, and one of our own would be one more thing to keep right; use gamma "
    "or contrast",
}


@final
@dataclass(frozen=True, slots=True)
class _Kind:
    make: Callable[[float, tuple[int, ...]], Sequence[_Transform]]
    amount: float
    least: float
    most: float


# -- Steps ----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One transform, done to an image with some probability.

    | name | what | amount | default |
    |---|---|---|---|
    | affine | turn, shift, zoom, evenly either way | times 10 degrees, 8 %, 12 % | 1 |
    | crop | a part at a random place, enlarged to the whole | least share of a side | 0.8 |
    | flip | left and right change places | none | |
    | flip-vertical | up and down change places | none | |
    | brightness | every level plus up to +- amount of white | share of white | 0.2 |
    | contrast | distances from the mean times 1 +- amount | share | 0.2 |
    | gamma | levels to a power from 1 / amount to amount | largest power | 1.5 |
    | noise | Gaussian, independent for each pixel | deviation, share of white | 0.05 |
    | blur | Gaussian | largest deviation in pixels | 1 |
    | elastic | a smooth random field of shifts | largest shift in pixels | 2 |

    Raises:
        ConfigError: No such step (with the reason, for some), or a number out of range.
    """

    name: str
    probability: float = 0.5
    amount: float | None = None

    def __post_init__(self) -> None:
        if self.name not in _KINDS:
            why = _WHY_NOT.get(self.name)
            raise ConfigError(
                f"training.augmentation {self.name!r} is refused: {why}"
                if why
                else f"training.augmentation {self.name!r} is unknown; expected one of "
                f"{', '.join(_KINDS)}"
            )
        if not 0 < self.probability <= 1:
            raise ConfigError(
                f"probability of {self.name} is {self.probability}; expected above 0, at most 1"
            )
        kind = _KINDS[self.name]
        if self.amount is not None and not kind.least <= self.amount <= kind.most:
            raise ConfigError(
                f"amount of {self.name} is {self.amount}; expected {kind.least:g} to {kind.most:g}"
            )

    def transforms(self, shape: tuple[int, ...]) -> Sequence[_Transform]:
        """Returns what MONAI does for it, always, to images of `shape` (channels, h, w)."""
        kind = _KINDS[self.name]
        return kind.make(kind.amount if self.amount is None else self.amount, shape)


# -- Images ---------------------------------------------------------------------------


def augmented(
    images: Images, maps: Maps | None, steps: Sequence[Step], key: bytes
) -> tuple[Images, Maps | None]:
    """Returns each image after `steps`, in order, and its label map moved alike.

    Guarantees: the result for an image is a function of `key`, of the steps and of that image (and
        its map) alone. A pixel of a map takes the class of the nearest one; what comes in from
        outside repeats the border. Global random state is unchanged.

    Raises:
        ConfigError: These are not images, or monai is not installed.
    """
    if images.ndim != 4:
        raise ConfigError(
            f"training.augmentation is set for records of shape {images.shape[1:]}; expected "
            "images (channels, height, width): remove it for tables"
        )
    new, moved = np.empty_like(images), None if maps is None else np.empty_like(maps)
    with _plain_tensors():
        made = [(step, step.transforms(images.shape[1:])) for step in steps]
        for place, image in enumerate(images):
            seeds = _seeds(key, image)
            pair = _pair(image, None if maps is None else maps[place])
            for step, transforms in made:
                if next(seeds) < step.probability * 2**32:
                    pair = _applied(transforms, pair, seeds)
            new[place] = (pair["image"].clamp(0, 1) * _WHITE).round().to(torch.uint8).numpy()
            if moved is not None:
                moved[place] = pair["map"][0].round().to(torch.uint8).numpy()
    return new, moved


def _seeds(key: bytes, image: Images) -> Iterator[int]:
    """Yields numbers of 32 bits, evenly spread, that key and pixels fix."""
    digest = hashlib.sha256(_TAG + len(key).to_bytes(4, "big") + key + image.tobytes()).digest()
    number = 0
    while True:
        words = hashlib.sha256(digest + number.to_bytes(4, "big")).digest()
        yield from np.frombuffer(words, "<u4").tolist()
        number += 1


def _pair(image: Images, labels: Maps | None) -> _Pair:
    shown = torch.from_numpy(image.astype(np.float32) / np.float32(_WHITE))
    if labels is None:
        return {"image": shown, "map": torch.zeros(1, *shown.shape[1:])}
    return {"image": shown, "map": torch.from_numpy(labels.astype(np.float32))[None]}


def _applied(transforms: Sequence[_Transform], pair: _Pair, seeds: Iterator[int]) -> _Pair:
    for transform in transforms:
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(seed=next(seeds))
        pair = transform(pair)
    return pair


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """Lets MONAI take tensors without its records of where they came from: five times faster."""
    try:
        switch = import_module("monai.data.meta_obj")  # seconds to load
    except ImportError:
        raise ConfigError(
            "training.augmentation needs monai, which is not installed; expected the extra: "
            "pip install 'consilium[augmentation]'"
        ) from None
    with _META:
        before = switch.get_track_meta()
        switch.set_track_meta(False)
        try:
            yield
        finally:
            switch.set_track_meta(before)


# -- What MONAI does ------------------------------------------------------------------


def _monai(name: str, keys: object, **settings: object) -> _Transform:
    return getattr(import_module("monai.transforms"), name)(keys, **settings)


def _affine(amount: float, shape: tuple[int, ...]) -> Sequence[_Transform]:
    return [
        _monai(
            "RandAffined",
            _BOTH,
            prob=1.0,
            rotate_range=amount * TURN,
            translate_range=[amount * SHIFT * side for side in shape[1:]],
            scale_range=amount * ZOOM,
            mode=_MODES,
            padding_mode="border",
        )
    ]


def _crop(amount: float, shape: tuple[int, ...]) -> Sequence[_Transform]:
    sides = shape[1:]
    least = [max(1, math.ceil(amount * side)) for side in sides]
    # nearest-exact takes the middle of a place, as bilinear does; nearest its corner
    return [
        _monai("RandSpatialCropd", _BOTH, roi_size=least, max_roi_size=sides, random_size=True),
        _monai("Resized", _BOTH, spatial_size=sides, mode=("bilinear", "nearest-exact")),
    ]


def _flip(axis: int, _amount: float, _shape: tuple[int, ...]) -> Sequence[_Transform]:
    return [_monai("Flipd", _BOTH, spatial_axis=axis)]


def _brightness(amount: float, _shape: tuple[int, ...]) -> Sequence[_Transform]:
    return [_monai("RandShiftIntensityd", "image", offsets=amount, prob=1.0)]


def _contrast(amount: float, _shape: tuple[int, ...]) -> Sequence[_Transform]:
    return [
        _monai("RandScaleIntensityFixedMeand", "image", factors=amount, fixed_mean=True, prob=1.0)
    ]


def _gamma(amount: float, _shape: tuple[int, ...]) -> Sequence[_Transform]:
    return [_monai("RandAdjustContrastd", "image", gamma=(1 / amount, amount), prob=1.0)]


def _noise(amount: float, _shape: tuple[int, ...]) -> Sequence[_Transform]:
    return [_monai("RandGaussianNoised", "image", std=amount, sample_std=False, prob=1.0)]


def _blur(amount: float, _shape: tuple[int, ...]) -> Sequence[_Transform]:
    sigma = (amount / 4, amount)
    return [_monai("RandGaussianSmoothd", "image", sigma_x=sigma, sigma_y=sigma, prob=1.0)]


def _elastic(amount: float, shape: tuple[int, ...]) -> Sequence[_Transform]:
    return [
        _monai(
            "Rand2DElasticd",
            _BOTH,
            spacing=[max(2, side // _GRID) for side in shape[1:]],
            magnitude_range=(0.0, amount),
            prob=1.0,
            mode=_MODES,
            padding_mode="border",
        )
    ]


def _left_right(amount: float, shape: tuple[int, ...]) -> Sequence[_Transform]:
    return _flip(1, amount, shape)


def _up_down(amount: float, shape: tuple[int, ...]) -> Sequence[_Transform]:
    return _flip(0, amount, shape)


_KINDS: Final[Mapping[str, _Kind]] = {
    "affine": _Kind(_affine, 1.0, 0.0, 5.0),
    "crop": _Kind(_crop, 0.8, 0.1, 1.0),
    "flip": _Kind(_left_right, 1.0, 1.0, 1.0),
    "flip-vertical": _Kind(_up_down, 1.0, 1.0, 1.0),
    "brightness": _Kind(_brightness, 0.2, 0.0, 1.0),
    "contrast": _Kind(_contrast, 0.2, 0.0, 1.0),
    "gamma": _Kind(_gamma, 1.5, 1.0, 5.0),
    "noise": _Kind(_noise, 0.05, 0.0, 1.0),
    "blur": _Kind(_blur, 1.0, 0.1, 10.0),
    "elastic": _Kind(_elastic, 2.0, 0.0, 50.0),
}
STEPS: Final = tuple(_KINDS)
