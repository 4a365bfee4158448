# SPDX-License-Identifier: Apache-2.0
"""What a site keeps of its own beside its start-up kit: key, settings, consents, ledgers.

    consilium/identity.key     Ed25519 private key; made here, mode 0600, never leaves
    consilium/site.json        name, where its records lie, what its steward left to others
    consilium/approved/*.toml  projects that its steward approved, as they read them
    consilium/trusted.txt      fingerprints of rosters that its steward compared
    consilium/offered.json     the last roster that the coordinator showed and that was not trusted
    consilium/ledger/*.jsonl   one ledger a run

Guarantees: a project that is not approved, or a roster that is not trusted, is refused; what
differs is in the message.
"""

import difflib
import os
from pathlib import Path
from typing import Annotated, Final, Literal, final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consilium.adapters.office.office import open_office
from consilium.adapters.office.permits import ProjectPermit, begin_run
from consilium.adapters.whole_files import write_whole
from consilium.errors import AccessDenied, ConfigError, DataError
from consilium.federation.enrolment import Call, roster_fingerprint
from consilium.federation.project import Project, parse_project

NAME: Final = "consilium"
_KEY_BYTES: Final = 32
_MOST_LINES: Final = 20  # of a difference that is shown


class SiteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator of a site chose.

    Attributes:
        name: Of the site.
        sites: Every site of the federation, by name.
        data_folder: Where its records lie.
        holds: All training records of the source are its own; or, in a demonstration, the source
            is everybody's and this site takes its part of the project's division.
        approves: Only listed projects, or every one.
        trusts: Only rosters that were compared, or the first that the coordinator shows.
        processes: That share a site's sums, each with a GPU of its own where there are GPUs.
        process_seconds: After which a round that these processes do not answer is given up.
        database: URL of this office's database, whose ledger then pays for every round; None: each
            run has a file, and nothing is kept over runs or by patient.
        dataset: Name of its records in that ledger; None: the last part of the project's source.
        office: Folder of this hospital's office, which then decides what runs here instead of the
            folder `approved`, and pays; None: there is none.
    """

    name: str
    sites: tuple[str, ...]
    data_folder: str | None = None
    holds: Literal["its-own-records", "its-part-of-a-shared-source"] = "its-own-records"
    approves: Literal["listed-projects", "every-project-and-the-researcher-decides"] = (
        "listed-projects"
    )
    trusts: Literal["compared-rosters", "the-first-roster-that-the-coordinator-shows"] = (
        "compared-rosters"
    )
    processes: Annotated[int, msgspec.Meta(ge=1)] = 1
    process_seconds: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    database: str | None = None
    dataset: str | None = None
    office: str | None = None


@final
class SiteFolder:
    """The folder `consilium` in the start-up kit at `kit`."""

    def __init__(self, kit: Path) -> None:
        self.path = kit / NAME

    def settle(self, settings: SiteSettings) -> None:
        """Writes the settings, and makes the key if there is none."""
        for folder in (self.path, self.path / "ledger", self.path / "approved"):
            folder.mkdir(mode=0o700, exist_ok=True)
        write_whole(self.path / "site.json", msgspec.json.encode(settings))
        key = self.path / "identity.key"
        if not key.exists():
            descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(Ed25519PrivateKey.generate().private_bytes_raw())
                file.flush()
                os.fsync(file.fileno())

    def settings(self) -> SiteSettings:
        """Returns what the operator chose.

        Raises:
            ConfigError: The kit was not joined yet, or the file is damaged.
        """
        try:
            return msgspec.json.decode((self.path / "site.json").read_bytes(), type=SiteSettings)
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(
                f"site.json cannot be read ({type(error).__name__}); expected a kit that was "
                "joined: consilium site join KIT"
            ) from None

    def identity(self) -> bytes:
        """Returns the private key.

        Raises:
            DataError: It is missing, damaged, or others may read it.
        """
        path = self.path / "identity.key"
        try:
            mode, key = path.stat().st_mode & 0o077, path.read_bytes()
        except OSError as error:
            raise DataError(
                f"identity.key cannot be read ({type(error).__name__}); expected this site's "
                "key: restore its copy, or join anew and have stewards compare the roster"
            ) from None
        if mode or len(key) != _KEY_BYTES:
            raise DataError(
                f"identity.key has mode {path.stat().st_mode & 0o777:o} and {len(key)} bytes; "
                f"expected 600 and {_KEY_BYTES}: chmod 600, or restore its copy"
            )
        return key

    def ledger(self, run: str) -> Path:
        """Returns where the ledger of a run lies."""
        return self.path / "ledger" / f"{run}.jsonl"

    # -- Consents ---------------------------------------------------------------------

    def approve(self, project: Project) -> Path:
        """Writes down that the steward approved this project; returns where.

        Raises:
            ConfigError: This hospital's office decides, and nothing beside it.
        """
        if self._office() is not None:
            raise ConfigError(
                "this site's office decides what runs here; expected a yes there: consilium "
                "project approve"
            )
        path = self.path / "approved" / f"{project.name}.toml"
        write_whole(path, project.resolved().encode())
        return path

    def check_approved(self, call: Call) -> ProjectPermit | None:
        """Refuses a call whose project and arm the steward did not approve.

        Returns:
            The office's permit, to be asked for every charge; None where there is no office.

        Raises:
            AccessDenied: With what differs from the approved project of that name, or why the
                office permits no run.
        """
        if (office := self._office()) is not None:
            return self._permit(office, call)
        self._check_listed(call)
        return None

    def _office(self) -> Path | None:
        path = self.path / "site.json"
        folder = self.settings().office if path.exists() else None
        return None if folder is None else Path(folder)

    def _permit(self, office: Path, call: Call) -> ProjectPermit:
        permit = begin_run(open_office(office).desk, call.project.terms(call.arm), call.run)
        source = Path(self.settings().data_folder or "") / call.project.data.source
        if source.resolve() != permit.folder:
            raise AccessDenied(
                f"project {call.project.name!r} reads {source}; the approved dataset "
                f"{permit.dataset!r} lies in another folder: link or move it there"
            )
        return permit

    def _check_listed(self, call: Call) -> None:
        if self.settings().approves != "listed-projects":
            return
        wanted = call.project.terms(call.arm)
        approved = [
            parse_project(path.read_text(encoding="utf-8"))
            for path in sorted((self.path / "approved").glob("*.toml"))
        ]
        if not any(one.terms(call.arm) == wanted for one in approved):
            raise AccessDenied(
                f"project {call.project.name!r}, arm {call.arm}, was not approved here; expected "
                "the steward's yes: consilium site approve KIT PROJECT.toml"
                + _difference(call, approved)
            )

    def trust(self, fingerprint: str) -> None:
        """Writes down that stewards compared the roster with this fingerprint.

        Raises:
            ConfigError: The coordinator never showed such a roster.
        """
        plain = " ".join(fingerprint.split())
        offered = self.offered()
        if offered is None or roster_fingerprint(offered) != plain:
            raise ConfigError(
                f"the roster {plain!r} was never shown to this site; expected the one of the last "
                "refused run: read it aloud with the other stewards and copy it whole"
            )
        self._note_trust(plain)

    def offered(self) -> dict[str, bytes] | None:
        """Returns the last roster that was not trusted, or None."""
        path = self.path / "offered.json"
        if not path.exists():
            return None
        return msgspec.json.decode(path.read_bytes(), type=dict[str, bytes])

    def check_trusted(self, roster: dict[str, bytes]) -> None:
        """Refuses a roster that the steward did not compare.

        Raises:
            AccessDenied: With the fingerprint to compare.
        """
        path, found = self.path / "trusted.txt", roster_fingerprint(roster)
        trusted = path.read_text().splitlines() if path.exists() else []
        if found in trusted:
            return
        if not trusted and self.settings().trusts != "compared-rosters":
            self._note_trust(found)
            return
        write_whole(self.path / "offered.json", msgspec.json.encode(roster))
        raise AccessDenied(
            f"roster {found} ({', '.join(sorted(roster))}) was not compared here; expected every "
            "steward to read the same by telephone: then consilium site trust KIT FINGERPRINT"
        )

    def _note_trust(self, fingerprint: str) -> None:
        path = self.path / "trusted.txt"
        before = path.read_text() if path.exists() else ""
        write_whole(path, f"{before}{fingerprint}\n".encode())


def _difference(call: Call, approved: list[Project]) -> str:
    """Returns in a few lines how the call differs from the approved project of its name."""
    for one in approved:
        if one.name == call.project.name:
            before, after = one.resolved().splitlines(), call.project.resolved().splitlines()
            lines = list(difflib.unified_diff(before, after, "approved", "asked", "", "", 0, ""))
            return "\n" + "\n".join(lines[:_MOST_LINES])
    return ""
