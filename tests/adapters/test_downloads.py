# SPDX-License-Identifier: Apache-2.0
"""Tests of downloads against a real server on this machine that behaves well, badly and worse."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from consilium.adapters.downloads import (
    PNEUMONIAMNIST,
    Remote,
    cache_folder,
    cached,
    demo_source,
    fetch,
)
from consilium.errors import DataError

CONTENT = bytes(range(256)) * 1000


# -- The server -----------------------------------------------------------------------


@dataclass
class Behaviour:
    """What the server does, and what it was asked for."""

    content: bytes = CONTENT
    ranges: bool = True  # honours a Range header
    break_after: int | None = None  # bytes of the body before the connection ends
    announce: bool = True  # sends Content-Length
    shift: int = 0  # continues at another place than was asked for
    status: int | None = None
    redirect: str | None = None  # where "/file" is said to be
    asked: list[str | None] = field(default_factory=list[str | None])


class Server(ThreadingHTTPServer):
    behaviour: Behaviour


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        behaviour, wanted = self.server.behaviour, self.headers["Range"]
        behaviour.asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and behaviour.ranges else 0
        redirect = behaviour.redirect if self.path == "/file" else None
        status = 302 if redirect else behaviour.status or (206 if start else 200)
        if start and start >= len(behaviour.content):
            status, start = 416, len(behaviour.content)
        body = behaviour.content[start:]
        self.send_response(status)
        if redirect:
            self.send_header("Location", redirect)
        if status == 206:
            first, total = start + behaviour.shift, len(behaviour.content)
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        if behaviour.announce:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: behaviour.break_after])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.behaviour = Behaviour()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def remote(server: Server) -> Remote:
    return Remote(
        name="pneumoniamnist.npz",
        url=f"http://127.0.0.1:{server.server_port}/file",
        md5=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(),
        limit=len(CONTENT),
    )


def part(folder: Path) -> Path:
    return folder / "pneumoniamnist.npz.part"


# -- Fetching -------------------------------------------------------------------------


def test_a_file_arrives_in_a_new_folder(remote: Remote, tmp_path: Path) -> None:
    path = fetch(remote, tmp_path / "new" / "cache")

    assert path == tmp_path / "new" / "cache" / "pneumoniamnist.npz"
    assert path.read_bytes() == CONTENT
    assert not part(path.parent).exists()


def test_a_cached_file_is_not_asked_for(server: Server, remote: Remote, tmp_path: Path) -> None:
    fetch(remote, tmp_path)
    fetch(remote, tmp_path)

    assert server.behaviour.asked == [None]


def test_a_damaged_file_in_the_cache_is_replaced(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / remote.name).write_bytes(b"damaged")

    assert cached(remote, tmp_path) is None
    assert fetch(remote, tmp_path).read_bytes() == CONTENT
    assert cached(remote, tmp_path) == tmp_path / remote.name


def test_progress_is_told(remote: Remote, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []

    fetch(remote, tmp_path, on_progress=lambda done, total: told.append((done, total)))

    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)


def test_an_unannounced_length_is_no_obstacle(
    server: Server, remote: Remote, tmp_path: Path
) -> None:
    server.behaviour.announce = False
    told: list[int | None] = []

    path = fetch(remote, tmp_path, on_progress=lambda _, total: told.append(total))

    assert path.read_bytes() == CONTENT
    assert set(told) == {None}


# -- Interruption ---------------------------------------------------------------------


def test_an_interrupted_file_is_kept_and_not_used(
    server: Server, remote: Remote, tmp_path: Path
) -> None:
    server.behaviour.break_after = 100_000

    with pytest.raises(DataError, match="interrupted after 100000 of 256000 bytes"):
        fetch(remote, tmp_path)

    assert part(tmp_path).read_bytes() == CONTENT[:100_000]
    assert cached(remote, tmp_path) is None


def test_an_interrupted_file_is_continued(server: Server, remote: Remote, tmp_path: Path) -> None:
    part(tmp_path).write_bytes(CONTENT[:100_000])
    told: list[int] = []

    path = fetch(remote, tmp_path, on_progress=lambda done, _: told.append(done))

    assert path.read_bytes() == CONTENT
    assert server.behaviour.asked == ["bytes=100000-"]
    assert told[0] > 100_000


def test_a_server_that_cannot_continue_starts_again(
    server: Server, remote: Remote, tmp_path: Path
) -> None:
    server.behaviour.ranges = False
    part(tmp_path).write_bytes(CONTENT[:100_000])

    assert fetch(remote, tmp_path).read_bytes() == CONTENT


def test_a_file_that_was_complete_is_accepted(remote: Remote, tmp_path: Path) -> None:
    part(tmp_path).write_bytes(CONTENT)

    assert fetch(remote, tmp_path).read_bytes() == CONTENT


def test_a_server_that_continues_elsewhere_is_refused_and_the_next_run_starts_again(
    server: Server, remote: Remote, tmp_path: Path
) -> None:
    server.behaviour.shift = 1
    part(tmp_path).write_bytes(CONTENT[:100_000])

    with pytest.raises(DataError, match="continued at another place"):
        fetch(remote, tmp_path)

    assert fetch(remote, tmp_path).read_bytes() == CONTENT
    assert server.behaviour.asked == ["bytes=100000-", None]


# -- Wrong files ----------------------------------------------------------------------


def test_a_wrong_file_is_removed(server: Server, remote: Remote, tmp_path: Path) -> None:
    server.behaviour.content = b"another file"

    with pytest.raises(DataError, match=f"found MD5 .*; expected {remote.md5}") as error:
        fetch(remote, tmp_path)

    assert list(tmp_path.iterdir()) == []
    assert "\n" not in str(error.value)


def test_a_wrong_beginning_is_removed(remote: Remote, tmp_path: Path) -> None:
    part(tmp_path).write_bytes(b"x" * 1000)

    with pytest.raises(DataError, match="found MD5"):
        fetch(remote, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_an_endless_file_is_stopped(server: Server, remote: Remote, tmp_path: Path) -> None:
    server.behaviour.content = CONTENT * 10

    with pytest.raises(DataError, match="more than 256000 bytes"):
        fetch(remote, tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_refusal_of_the_server_is_told(
    server: Server, remote: Remote, tmp_path: Path, status: int
) -> None:
    server.behaviour.status = status

    with pytest.raises(DataError, match=r"found no way to fetch it from 127\.0\.0\.1") as error:
        fetch(remote, tmp_path)

    assert "\n" not in str(error.value)


def test_a_redirection_away_from_https_is_refused(
    server: Server, remote: Remote, tmp_path: Path
) -> None:
    server.behaviour.redirect = f"http://localhost:{server.server_port}/elsewhere"

    with pytest.raises(DataError, match="redirected away from HTTPS"):
        fetch(remote, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_redirection_that_stays_safe_is_followed(
    server: Server, remote: Remote, tmp_path: Path
) -> None:
    server.behaviour.redirect = f"http://127.0.0.1:{server.server_port}/elsewhere"

    assert fetch(remote, tmp_path).read_bytes() == CONTENT


def test_no_network_is_told(server: Server, remote: Remote, tmp_path: Path) -> None:
    server.server_close()

    with pytest.raises(DataError, match=r"found no way to fetch it .*put the file into"):
        fetch(remote, tmp_path)


def test_a_cache_that_cannot_be_made_is_told(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match="a folder that can be written"):
        fetch(remote, tmp_path / "file")


@pytest.mark.parametrize("url", ["http://example.org/x", "file:///etc/passwd", "ftp://x/y"])
def test_only_https_is_fetched(url: str) -> None:
    with pytest.raises(ValueError, match="must be HTTPS"):
        Remote(name="x", url=url, md5="", limit=1)


# -- The cache ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/var/cache/me", "/var/cache/me/consilium"),
        ("", "~/.cache/consilium"),
        ("here", "~/.cache/consilium"),
    ],
)
def test_the_cache_follows_the_platform(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)

    assert cache_folder() == Path(expected).expanduser()


def test_the_official_file_is_fetched_over_https() -> None:
    assert PNEUMONIAMNIST.url.startswith("https://zenodo.org/records/10519652/")


# -- Data for a demonstration ---------------------------------------------------------


def test_own_x_rays_come_first(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "pneumonia_cxr").mkdir()
    (tmp_path / "pneumonia_cxr" / "cxr64.npz").touch()

    demo = demo_source(tmp_path, tmp_path / "cache", offline=False, remote=remote)

    assert (demo.source, demo.folder, demo.unit) == ("cxr64", tmp_path, "patient")
    assert "CONSILIUM_DATA" in demo.why


@pytest.mark.parametrize("offline", [True, False])
def test_a_cached_file_comes_second(
    server: Server, remote: Remote, tmp_path: Path, *, offline: bool
) -> None:
    (tmp_path / remote.name).write_bytes(CONTENT)

    demo = demo_source(None, tmp_path, offline=offline, remote=remote)

    assert (demo.source, demo.folder, demo.unit) == ("pneumoniamnist", tmp_path, "record")
    assert "from the cache" in demo.why
    assert server.behaviour.asked == []


def test_a_download_comes_third(remote: Remote, tmp_path: Path) -> None:
    demo = demo_source(None, tmp_path, offline=False, remote=remote)

    assert (demo.source, demo.folder, demo.unit) == ("pneumoniamnist", tmp_path, "record")
    assert "fetched from 127.0.0.1" in demo.why
    assert cached(remote, tmp_path) is not None


def test_offline_nothing_is_asked_for(server: Server, remote: Remote, tmp_path: Path) -> None:
    demo = demo_source(None, tmp_path, offline=True, remote=remote)

    assert (demo.source, demo.folder, demo.unit) == ("digits", None, "record")
    assert "downloads are off" in demo.why
    assert server.behaviour.asked == []


def test_without_a_network_the_digits_remain(
    server: Server, remote: Remote, tmp_path: Path
) -> None:
    server.behaviour.status = 503

    demo = demo_source(None, tmp_path, offline=False, remote=remote)

    assert demo.source == "digits"
    assert "could not be fetched" in demo.why
    assert "\n" not in demo.why


def test_a_folder_without_x_rays_is_mentioned(remote: Remote, tmp_path: Path) -> None:
    demo = demo_source(tmp_path, tmp_path, offline=True, remote=remote)

    assert "CONSILIUM_DATA holds no pneumonia_cxr/cxr64.npz" in demo.why
