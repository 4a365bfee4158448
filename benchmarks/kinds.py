# SPDX-License-Identifier: Apache-2.0
"""How often the kinds of picture that an export can learn err.

Learnt from the published validation splits of the chest X-rays (Kermany et al. 2018, CC BY 4.0)
and of RetinaMNIST (Yang et al. 2023, CC BY 4.0); judged on their test splits and on pictures of
other kinds: MNIST, MR of the hippocampus, grey DICOM objects of all sorts, photographs, noise.

    CONSILIUM_DATA=... python benchmarks/kinds.py
"""

import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from consilium.adapters.picture_kinds import KINDS, learn_published
from consilium.data.dicom_files import open_dicom, sample_of
from consilium.data.nifti_files import read_nifti
from consilium.data.rendering import in_channels, windowed
from consilium.learning.familiarity import Kind, colourfulness

Picture = NDArray[np.uint8]


def archive(data: Path, name: str, split: str) -> list[Picture]:
    with np.load(data / name) as held:
        images = held[f"{split}_images"]
    return [image[None] if image.ndim == 2 else image.transpose(2, 0, 1) for image in images]


def photographs() -> list[Picture]:
    whole = [image.transpose(2, 0, 1) for image in load_sample_images().images]
    _, height, width = whole[0].shape
    corners = [(y, x) for y in range(0, height - 160, 60) for x in range(0, width - 160, 60)]
    return [*whole, *(one[:, y : y + 160, x : x + 160] for one in whole for y, x in corners)]


def dicom_objects(data: Path) -> list[Picture]:
    found = []
    for path in sorted((data / "dicom_pydicom").rglob("*")):
        try:
            sample = sample_of(open_dicom(path.read_bytes()))
        except Exception:  # noqa: BLE001, S112 - many are made to be refused
            continue
        if min(sample.pixels.shape[2:]) >= 32 and sample.pixels.shape[0] == 1:
            found.append(windowed(sample.pixels[:, 0], sample.window))
    return found


def brains(data: Path) -> list[Picture]:
    found = []
    for path in sorted((data / "hippocampus/images").glob("[!.]*.nii*")):
        sample = read_nifti(path.read_bytes())
        middle = sample.pixels[:, sample.pixels.shape[1] // 2]
        found.append(windowed(middle, sample.window))
    return found


def digits(data: Path) -> list[Picture]:
    file = next((data / "mnist").glob("t10k-images*.gz"))
    rows = np.frombuffer(gzip.decompress(file.read_bytes())[16:], np.uint8).reshape(-1, 1, 28, 28)
    return list(rows[:1000])


def noise() -> list[Picture]:
    random = np.random.default_rng(0)
    return list(random.integers(0, 256, (200, 1, 64, 64), dtype=np.uint8))


def all_pictures(data: Path) -> dict[str, list[Picture]]:
    chest = archive(data, "pneumonia_cxr/cxr64.npz", "test")
    return {
        "chest X-rays, test": chest,
        "chest X-rays, MedMNIST test": archive(
            data, "medmnist/pneumoniamnist_reordered.npz", "test"
        ),
        "chest X-rays, negative": [255 - one for one in chest],
        "chest X-rays, on their side": [np.rot90(one, 1, (1, 2)) for one in chest],
        "chest X-rays, upside down": [one[:, ::-1] for one in chest],
        "fundus photographs, test": archive(data, "medmnist/retinamnist.npz", "test"),
        "digits": digits(data),
        "MR of the hippocampus": brains(data),
        "grey DICOM objects": dicom_objects(data),
        "photographs": photographs(),
        "noise": noise(),
    }


def fitting(picture: Picture, channels: int) -> Picture:
    return in_channels(np.ascontiguousarray(picture), 1 if channels == 1 else 3)


def refused(kind: Kind, pictures: list[Picture]) -> float:
    passed = [kind.knows(fitting(one, kind.channels), colourfulness(one)) for one in pictures]
    return 1 - sum(passed) / len(passed)


def shares(data: Path) -> Mapping[str, Mapping[str, float]]:
    pictures = all_pictures(data)
    return {
        name: {f"{what} ({len(ones)})": refused(kind, ones) for what, ones in pictures.items()}
        for name, kind in ((name, learn_published(name, data)) for name in KINDS)
    }


def main() -> None:
    print(json.dumps(shares(Path(os.environ["CONSILIUM_DATA"])), indent=2))


if __name__ == "__main__":
    main()
