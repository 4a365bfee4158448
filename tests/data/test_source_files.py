# SPDX-License-Identifier: Apache-2.0
"""Tests of folders and archives: one order, and nothing outside or unsafe is read."""

import os
import stat
import zipfile
from pathlib import Path

import pytest
from tests.data.made import write

from consilium.data import source_files
from consilium.data.samples import RejectedFile
from consilium.data.source_files import Source, check_name
from consilium.errors import DataError


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def reasons(source: Path) -> dict[str, str]:
    """What is refused, by name."""
    found: dict[str, str] = {}
    with Source(source) as opened:
        for file in opened.files():
            try:
                opened.read(file)
            except RejectedFile as error:
                found[file.name] = error.reason
    return found


def test_a_folder_and_its_zip_hold_the_same_files_in_the_same_order(tmp_path: Path) -> None:
    members = {"b/2.png": b"two", "a.png": b"one", "b/10.png": b"ten"}
    for name, data in members.items():
        write(tmp_path / "folder" / name, data)
    write(tmp_path / "folder/.DS_Store", b"left about")
    archive = zipped(tmp_path / "files.zip", {**members, "__MACOSX/a.png": b"left about"})

    with Source(tmp_path / "folder") as folder, Source(archive) as packed:
        names = [file.name for file in folder.files()]

        assert names == ["a.png", "b/10.png", "b/2.png"]
        assert names == [file.name for file in packed.files()]
        assert [folder.read(file) for file in folder.files()] == [b"one", b"ten", b"two"]
        assert [packed.read(file) for file in packed.files()] == [b"one", b"ten", b"two"]


@pytest.mark.parametrize(
    "name", ["../a.png", "a/../../b", "/etc/passwd", "C:/a.png", "a\\..\\b", "a\nb.png"]
)
def test_a_name_that_leads_out_is_refused(name: str) -> None:
    with pytest.raises(RejectedFile, match="unsafe path"):
        check_name(name)


def test_members_that_lead_out_are_refused_and_the_rest_is_read(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"../../evil": b"x", "/abs": b"x", "good.png": b"x"})

    assert reasons(archive) == {"../../evil": "unsafe path", "/abs": "unsafe path"}


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")

    assert reasons(tmp_path / "a.zip") == {"link.png": "not a regular file"}


def test_links_pipes_and_linked_folders_are_not_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "elsewhere/secret.png", b"secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.png").symlink_to(secret)
    (folder / "linked").symlink_to(secret.parent)
    os.mkfifo(folder / "pipe.png")

    assert reasons(folder) == dict.fromkeys(
        ("link.png", "linked", "pipe.png"), "not a regular file"
    )


def test_a_member_that_inflates_too_far_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_files, "MAX_FILE_BYTES", 1000)
    archive = zipped(tmp_path / "a.zip", {"bomb.png": bytes(5000)})
    write(tmp_path / "folder/large.png", bytes(5000))

    assert reasons(archive) == {"bomb.png": "too large"}
    assert reasons(tmp_path / "folder") == {"large.png": "too large"}


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no"):
        Source(tmp_path / "absent")
    with pytest.raises(DataError, match="expected a folder, a zip"):
        Source(write(tmp_path / "a.txt", b"text"))


def test_a_folder_that_cannot_be_listed_is_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "Eva/1.png", b"x")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with (
        Source(tmp_path) as opened,
        pytest.raises(DataError, match=r"\(Permission denied\)") as seen,
    ):
        opened.files()

    assert "Eva" not in str(seen.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_an_archive_holds_twice_is_one_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"first")
        archive.writestr("a.png", b"second")

    with Source(tmp_path / "a.zip") as opened:
        assert [opened.read(file) for file in opened.files()] == [b"second"]
