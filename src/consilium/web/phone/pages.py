# SPDX-License-Identifier: Apache-2.0
"""The files of a phone page, whatever its mode: scripts that were built, and what a mode adds.

The scripts, the style and the WebAssembly runtime are made from npm packages by `make phone`
(web-build/phone, versions locked) and are part of the wheel. Guarantees: the service worker knows
every file's digest; the same release and additions give the same files.
"""

import base64
import gzip
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Final, final

import msgspec
from PIL import Image, ImageDraw

from consilium.adapters.whole_files import write_whole
from consilium.errors import ConfigError
from consilium.web.phone import policies

PAGE: Final = "index.html"
SERVICE_WORKER: Final = "sw.js"
_ALWAYS: Final = ("LICENCES.txt", "app.css", "icon.svg", "manifest.webmanifest", SERVICE_WORKER)
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".onnx": "application/octet-stream",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
_ICON_SIDES: Final = (192, 512)
_TONE: Final = (11, 92, 94)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneSite:
    """The page's files by name.

    Attributes:
        files: Content of each.
        packed: The same through gzip.
        operators: Origins that the page's worker may ask; none in the default mode.
    """

    files: Mapping[str, bytes] = field(repr=False)
    packed: Mapping[str, bytes] = field(repr=False)
    operators: tuple[str, ...] = ()

    @property
    def download(self) -> int:
        """Bytes that a phone loads in all, compressed."""
        return sum(len(data) for data in self.packed.values())


def assemble(
    built: Mapping[str, str], added: Mapping[str, bytes], operators: tuple[str, ...] = ()
) -> PhoneSite:
    """Returns a page.

    Args:
        built: By name on the page, the name of a file that `make phone` made.
        added: By name on the page, its content.
        operators: Origins that the page's worker may ask.

    Raises:
        ConfigError: The page's scripts were not made.
    """
    names = {**{name: name for name in _ALWAYS}, **built}
    written = {name: _built(made) for name, made in names.items()}
    written |= added
    written |= {f"icon-{side}.png": draw_icon(side) for side in _ICON_SIDES}
    written[SERVICE_WORKER] = _service_worker(written, operators)
    return PhoneSite(
        files=written,
        packed={name: gzip.compress(each, 9, mtime=0) for name, each in written.items()},
        operators=operators,
    )


def write_site(site: PhoneSite, out: Path) -> None:
    """Writes every file, and beside it NAME.gz, into a new folder.

    Raises:
        ConfigError: The folder is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"folder {out} is not empty; expected a new one: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    for name, data in site.files.items():
        write_whole(out / name, data)
        write_whole(out / f"{name}.gz", site.packed[name])


def type_of(name: str) -> str:
    """Returns the media type of a file of the page."""
    return _TYPES["." + name.rpartition(".")[2]]


def _built(name: str) -> bytes:
    try:
        return (files("consilium.web.phone") / "assets" / name).read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"the page's {name} was not made; expected what a release holds: run `make phone` "
            "(needs npm), or install a released wheel"
        ) from None


def _service_worker(written: Mapping[str, bytes], operators: tuple[str, ...]) -> bytes:
    kept = {name: data for name, data in sorted(written.items()) if name != SERVICE_WORKER}
    entries = {
        name: {"integrity": _integrity(data), "size": len(data), "type": type_of(name)}
        for name, data in kept.items()
    }
    body = written[SERVICE_WORKER]
    known = msgspec.json.encode((entries, operators))
    constants = {
        "FILES": entries,
        "OPERATORS": operators,
        "POLICIES": policies.for_service_worker(operators),
        "TOTAL": sum(len(data) for data in kept.values()),
        "VERSION": hashlib.sha256(known + body).hexdigest()[:16],
    }
    lines = [
        f"const {name} = {msgspec.json.encode(it).decode()};" for name, it in constants.items()
    ]
    return ("\n".join(lines) + "\n").encode() + body


def _integrity(data: bytes) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(data).digest()).decode()


def draw_icon(side: int) -> bytes:
    """Returns the icon as PNG, for phones that take no SVG."""
    image = Image.new("RGB", (side, side), _TONE)
    pen, unit = ImageDraw.Draw(image), side / 16
    pen.rectangle((7 * unit, 4 * unit, 9 * unit, 12 * unit), "white")
    pen.rectangle((4 * unit, 7 * unit, 12 * unit, 9 * unit), "white")
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
