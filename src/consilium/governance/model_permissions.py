# SPDX-License-Identifier: Apache-2.0
"""What may be done with a trained model, and which version a name means.

    use                   who gets what                                     needs
    download              who may sign in: the weights, as a file           its own yes, a guarantee
    device                everybody: the weights, in a page for phones      its own yes, a guarantee
    remote-inference      an operator: the input and the answer             its own yes, a guarantee
    encrypted-inference   nobody the weights, no operator input or answer   any yes but to download

This is the one rule; offices, exports, pages and operators ask it. Guarantees: a model without a
privacy guarantee is never downloaded, given to a device or asked in the clear, whatever else is
set; asking it encrypted hides its weights, and not what its answers tell of its patients.
Not here: the encryption (`inference`), signatures (`model_permits`), files.
"""

from collections.abc import Iterable, Mapping
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
    DEVICE = "device"
    REMOTE_INFERENCE = "remote-inference"
    ENCRYPTED_INFERENCE = "encrypted-inference"


HOLDING: Final = (Use.DEVICE, Use.DOWNLOAD)  # whoever does it holds the weights


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPermissions:
    """What the owner of a model allows; by default nothing.

    Raises:
        ConfigError: "Encrypted only" together with a way around it.
    """

    allow_download: bool = False
    allow_device: bool = False
    allow_remote_inference: bool = False
    encrypted_only: bool = False

    def __post_init__(self) -> None:
        if self.encrypted_only and (
            self.allow_download or self.allow_device or self.allow_remote_inference
        ):
            raise ConfigError(
                "encrypted-only is set with another permission; expected it alone: it means that "
                "nobody holds the weights and no operator sees an image"
            )

    def words(self) -> tuple[str, ...]:
        """Returns the words that `permissions_of` takes; () for nothing."""
        return tuple(word for word, name in _NAMES.items() if getattr(self, name))


_NAMES: Final[Mapping[str, str]] = {
    Use.DOWNLOAD: "allow_download",
    Use.DEVICE: "allow_device",
    Use.REMOTE_INFERENCE: "allow_remote_inference",
    "encrypted-only": "encrypted_only",
}
WORDS: Final = tuple(str(word) for word in _NAMES)


def permissions_of(words: Iterable[str]) -> ModelPermissions:
    """Returns what `words` allow together.

    >>> permissions_of(["device"]).allow_device
    True

    Raises:
        ConfigError: A word is none of `WORDS`, or they contradict each other.
    """
    given = tuple(words)
    unknown = [word for word in given if word not in _NAMES]
    if unknown:
        raise ConfigError(f"permission {unknown[0]!r}; expected some of {', '.join(WORDS)}")
    return ModelPermissions(**{_NAMES[word]: True for word in given})


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


def decide_use(permissions: ModelPermissions, use: Use, *, private: bool) -> Decision:
    """Returns whether a model may be used so.

    Args:
        permissions: Of the model.
        use: That is asked for.
        private: Whether the model carries a privacy guarantee.
    """
    if use is Use.ENCRYPTED_INFERENCE:
        some = permissions.encrypted_only or permissions.allow_remote_inference
        return _said(use, allowed=some or permissions.allow_device)
    if permissions.encrypted_only:
        return Decision(False, "only encrypted inference is allowed on this model")
    if not private:
        return Decision(False, "the model carries no privacy guarantee and stays with its owner")
    return _said(use, allowed=bool(getattr(permissions, _NAMES[use])))


def may_use(model: ModelVersion, use: Use) -> Decision:
    """Returns whether a version of an office's may be used so."""
    if model.withdrawn is not None:
        return Decision(False, f"the version was withdrawn on {model.withdrawn:%Y-%m-%d}")
    return decide_use(model.permissions, use, private=model.epsilon is not None)


def _said(use: Use, *, allowed: bool) -> Decision:
    return Decision(
        allowed, f"{use} is allowed" if allowed else "its owner has not opened this model to that"
    )


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
