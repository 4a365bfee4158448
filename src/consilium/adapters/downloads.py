# SPDX-License-Identifier: Apache-2.0
"""Public files fetched once into a cache, and the choice of data for a demonstration.

Guarantees: a file appears under its name only when all of it is there and its checksum is the
publisher's; what has arrived is kept beside it (`.part`) and continued next time, unless the
whole file was wrong. Nothing is sent but the request for the file.

Threat model: the network breaks, lies about lengths, or serves another file. MD5 is what the
publisher gives: it detects damage, and against a forged file the protection is HTTPS. Not here:
two processes that fetch the same file at once (the checksum then refuses the mixture).
"""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, final

from consilium.data.records import Unit
from consilium.errors import DataError

OnProgress: TypeAlias = Callable[[int, int | None], None]  # bytes so far, bytes in all if known

_CHUNK: Final = 1 << 16
_TIMEOUT: Final = 30.0  # seconds without an answer
_CONTINUED: Final = 206  # HTTP statuses
_NOTHING_LEFT: Final = 416
_XRAYS: Final = "pneumonia_cxr/cxr64.npz"
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")


# -- Files ----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A public file.

    Attributes:
        name: What it is called in the cache.
        url: Where it is; HTTPS, or HTTP on this machine.
        md5: Its checksum in hexadecimal, as published.
        limit: More bytes than it can have; the transfer stops there.
    """

    name: str
    url: str
    md5: str
    limit: int

    def __post_init__(self) -> None:
        if not _is_safe(self.url):
            raise ValueError(f"url={self.url!r} must be HTTPS")


def _is_safe(url: str) -> bool:
    return url.startswith(("https://", "http://127.0.0.1:"))


PNEUMONIAMNIST: Final = Remote(
    name="pneumoniamnist.npz",
    url="https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1",
    md5="28209eda62fecd6e6a2d98b1501bb15f",
    limit=64 << 20,
)


def cache_folder() -> Path:
    """Returns $XDG_CACHE_HOME/consilium, or ~/.cache/consilium where the first is not set."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "consilium"


def cached(remote: Remote, folder: Path) -> Path | None:
    """Returns the file if it is in `folder` with the right checksum, else None."""
    path = folder / remote.name
    try:
        return path if _md5(path) == remote.md5 else None
    except OSError:
        return None


def fetch(
    remote: Remote,
    folder: Path,
    *,
    on_progress: OnProgress | None = None,
    timeout: float = _TIMEOUT,
) -> Path:
    """Returns the file in `folder`, fetched if it is not there yet.

    Args:
        remote: Which file.
        folder: The cache; made if it is not there.
        on_progress: Called after each piece.
        timeout: Seconds to wait for the network at each step.

    Raises:
        DataError: No network, an interruption (run again to continue), a wrong checksum (what
            was fetched is removed), or a folder that cannot be written.
    """
    path = cached(remote, folder)
    if path is not None:
        return path
    part = folder / f"{remote.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _continue(remote, part, on_progress or _ignore, timeout)
        return _accept(remote, part)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"{remote.name}: found no way to fetch it from {_host(remote)} ({_reason(error)}); "
            f"expected a network and a folder that can be written; try again, or put the file "
            f"into {folder} yourself"
        ) from None


def _continue(remote: Remote, part: Path, on_progress: OnProgress, timeout: float) -> None:
    """Appends to `part` what is missing of it."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(remote.url)  # noqa: S310 - Remote allows HTTPS alone
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - as above
            _save(answer, part, done=done, limit=remote.limit, on_progress=on_progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != _NOTHING_LEFT or not done:
            raise


def _save(
    answer: http.client.HTTPResponse,
    part: Path,
    *,
    done: int,
    limit: int,
    on_progress: OnProgress,
) -> None:
    if not _is_safe(answer.url):
        raise OSError("redirected away from HTTPS")
    extent = _extent(answer, done)
    if extent is None:
        part.unlink(missing_ok=True)
        raise OSError("the server continued at another place")
    start, total = extent
    with part.open("ab" if start else "wb") as file:
        arrived = start
        while arrived <= limit and (piece := answer.read(_CHUNK)):
            file.write(piece)
            arrived += len(piece)
            on_progress(arrived, total)
    if arrived > limit:
        part.unlink()
        raise OSError(f"more than {limit} bytes")
    if total is not None and arrived != total:
        raise OSError(f"interrupted after {arrived} of {total} bytes; what arrived is kept")


def _extent(answer: http.client.HTTPResponse, done: int) -> tuple[int, int | None] | None:
    """Returns where the answer's bytes belong and the size of the whole file if known.

    None where the server continues the file at a place that was not asked for.
    """
    if answer.status == _CONTINUED:
        match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        return (done, int(match[2])) if match is not None and int(match[1]) == done else None
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _accept(remote: Remote, part: Path) -> Path:
    """Returns the finished file under its name, if its checksum is right."""
    found = _md5(part)
    if found != remote.md5:
        part.unlink()
        raise DataError(
            f"{remote.name}: found MD5 {found}; expected {remote.md5}; the file was removed: try "
            "again, and do not use a file from there that keeps differing"
        )
    path = part.with_suffix("")
    part.replace(path)
    return path


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _host(remote: Remote) -> str:
    return remote.url.split("/")[2]


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(reason).split()) or type(error).__name__


def _ignore(done: int, total: int | None) -> None:
    """The progress that nobody watches."""


# -- Data for a demonstration ---------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSource:
    """What `read_splits` is to be called with.

    Attributes:
        source: A name of `consilium.data.sources.SOURCES`.
        folder: Where its files lie.
        unit: What the guarantee can be about with this source.
        why: One sentence for the person who runs the demonstration.
    """

    source: str
    folder: Path | None
    unit: Unit
    why: str


def demo_source(
    data: Path | None,
    cache: Path,
    *,
    offline: bool,
    remote: Remote = PNEUMONIAMNIST,
    on_progress: OnProgress | None = None,
) -> DemoSource:
    """Returns the best data at hand: own X-rays, else PneumoniaMNIST, else bundled digits.

    Args:
        data: The folder that CONSILIUM_DATA names, None where it is not set.
        cache: Where downloads are kept.
        offline: Fetch nothing.
        remote: What to fetch.
        on_progress: As for `fetch`.
    """
    if data is not None and (data / _XRAYS).is_file():
        why = "Chest X-rays from the folder CONSILIUM_DATA; the privacy unit is the patient."
        return DemoSource(source="cxr64", folder=data, unit="patient", why=why)
    absent = "" if data is None else f" (the folder CONSILIUM_DATA holds no {_XRAYS})"
    if cached(remote, cache) is not None:
        return _pneumoniamnist(cache, f"from the cache{absent}")
    if offline:
        return _digits(f"no X-rays are cached and downloads are off{absent}")
    try:
        fetch(remote, cache, on_progress=on_progress)
    except DataError as error:
        return _digits(f"PneumoniaMNIST could not be fetched{absent}: {error}")
    return _pneumoniamnist(cache, f"fetched from {_host(remote)}{absent}")


def _pneumoniamnist(cache: Path, how: str) -> DemoSource:
    unit = "they name no patient, so the privacy unit is the single image"
    why = f"Chest X-rays (PneumoniaMNIST) {how}; {unit}."
    return DemoSource(source="pneumoniamnist", folder=cache, unit="record", why=why)


def _digits(because: str) -> DemoSource:
    why = f"Digits bundled with scikit-learn, not medical images, because {because}."
    return DemoSource(source="digits", folder=None, unit="record", why=why)
