# SPDX-License-Identifier: Apache-2.0
"""A version of an office's model as a folder that `export` and `inference publish` read.

    OUT/project.toml                    of the contract, every default included
    OUT/runs/ARM-seed0/model.safetensors, result.json, model.permit.json

Guarantees: only weights with the digest that was published; the permit is signed by the office and
says what it allows now. The folder holds the weights: it stays where the office's models are kept.
"""

import hashlib
from pathlib import Path
from typing import Final

from consilium.adapters.finished_models import PROJECT
from consilium.adapters.office.office import Office
from consilium.adapters.office.terms import project_of
from consilium.adapters.stage import MODEL, RESULT
from consilium.adapters.whole_files import write_whole
from consilium.errors import ConfigError, DataError
from consilium.governance.access import Actor
from consilium.governance.model_permits import PERMIT, Permit, encode_permit

MODELS: Final = "models"  # of an office's folder
_SEED: Final = 0  # of hosted runs


def result_name(file: str) -> str:
    """Returns where the result of a run is kept beside its weights.

    >>> result_name("heart-1.safetensors")
    'heart-1.result.json'
    """
    return str(Path(file).with_suffix(".result.json"))


def release(
    office: Office, actor: Actor, models: Path, named: tuple[str, str], out: Path
) -> Permit:
    """Writes the folder of a version; returns its permit.

    Args:
        office: Whose model it is.
        actor: Who asks.
        models: Folder of published models.
        named: Model and version, or `latest`.
        out: A new folder.

    Raises:
        AccessDenied: Nothing may be done with the version.
        ConfigError: The folder is not empty.
        DataError: The files of the version are not here, or not as published.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"folder {out} is not empty; expected a new one: choose another --out")
    version, permit = office.models.release(actor, *named)
    weights = _read(models / Path(version.file).name)
    if hashlib.sha256(weights).hexdigest() != version.digest:
        raise DataError(
            f"{version.file} is not the file that was published; expected its digest: restore it, "
            "or withdraw the version"
        )
    result = _read(models / result_name(Path(version.file).name))
    contract = office.projects.get(actor, version.project).contract
    run = out / "runs" / f"{contract.arm}-seed{_SEED}"
    run.mkdir(parents=True, mode=0o700)
    write_whole(out / PROJECT, project_of(contract).resolved().encode())
    write_whole(run / MODEL, weights)
    write_whole(run / RESULT, result)
    write_whole(run / PERMIT, encode_permit(permit))
    return permit


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path.name} cannot be read ({type(error).__name__}); expected it in the office's "
            "folder of models: restore it"
        ) from None
