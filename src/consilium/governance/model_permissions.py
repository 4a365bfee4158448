# SPDX-License-Identifier: Apache-2.0
"""What may be done with a published model, and which version a name means.

Guarantees: a model that carries no privacy guarantee cannot be downloaded or asked outside the
office, whatever else is set; "encrypted only" means that no one holds the weights and nobody sees
the image. Not here: the encryption (`inference`), files.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, final

from consilium.errors import ConfigError, NotFound
from consilium.governance.access import Decision

LATEST: Final = "latest"


class Use(StrEnum):
    """What somebody wants to do with a model."""

    DOWNLOAD = "download"
    REMOTE_INFERENCE = "remote-inference"  # the operator sees the input
    ENCRYPTED_INFERENCE = "encrypted-inference"  # no operator sees the input or the weights


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPermissions:
    """What the office allows; by default nothing.

    Raises:
        ConfigError: "Encrypted only" together with a way around it.
    """

    allow_download: bool = False
    allow_remote_inference: bool = False
    encrypted_only: bool = False

    def __post_init__(self) -> None:
        if self.encrypted_only and (self.allow_download or self.allow_remote_inference):
            raise ConfigError(
                "encrypted_only is set with allow_download or allow_remote_inference; expected it "
                "alone: it means that nobody holds the weights and no operator sees an image"
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One checkpoint under a name.

    Attributes:
        id: ULID.
        name: Of the model.
        version: From 1.
        digest: SHA-256 of the file, hexadecimal.
        file: Its name in the office's folder of models.
        project: Id of the project that trained it.
        run: That trained it.
        epsilon: It was released at, or None without a guarantee.
        delta: Likewise.
        published: UTC.
        withdrawn: When, or None.
        permissions: Of this version.
    """

    id: str
    name: str
    version: int
    digest: str
    file: str
    project: str
    run: str
    epsilon: float | None
    delta: float | None
    published: datetime
    withdrawn: datetime | None = None
    permissions: ModelPermissions = ModelPermissions()


def may_use(model: ModelVersion, use: Use) -> Decision:
    """Returns whether `model` may be used so."""
    allowed = model.permissions
    if model.withdrawn is not None:
        return Decision(False, f"the version was withdrawn on {model.withdrawn:%Y-%m-%d}")
    if use is Use.ENCRYPTED_INFERENCE:
        open_to_all = allowed.encrypted_only or allowed.allow_remote_inference
        return Decision(open_to_all, "encrypted inference is allowed" if open_to_all else _CLOSED)
    if allowed.encrypted_only:
        return Decision(False, "only encrypted inference is allowed on this model")
    if model.epsilon is None:
        return Decision(False, "the model carries no privacy guarantee and stays in the office")
    granted = allowed.allow_download if use is Use.DOWNLOAD else allowed.allow_remote_inference
    return Decision(granted, f"{use} is allowed" if granted else _CLOSED)


_CLOSED: Final = "the office has not opened this model to that use"


def resolve(versions: Iterable[ModelVersion], name: str, version: str = LATEST) -> ModelVersion:
    """Returns the version that is meant; "latest" is the highest that was not withdrawn.

    Raises:
        NotFound: There is none such.
    """
    own = [one for one in versions if one.name == name]
    if version == LATEST:
        living = [one for one in own if one.withdrawn is None]
        if living:
            return max(living, key=lambda one: one.version)
    for one in own:
        if str(one.version) == version:
            return one
    known = ", ".join(str(one.version) for one in own) or "none"
    raise NotFound(f"model {name!r} has no version {version!r}; expected {LATEST} or of {known}")
