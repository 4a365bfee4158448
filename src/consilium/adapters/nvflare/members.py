# SPDX-License-Identifier: Apache-2.0
"""A federation after its beginning: certificates renewed, sites added and removed.

What a party has to copy over its kit lies in NAME/changes/PARTY: files that replace those of
the same name. Keys of sites, consents and ledgers are in no such folder.

Guarantees: new certificates are of the same authority. A removed site cannot register again:
NVFlare refuses its name, and no other site gets that name. Not guaranteed: a certificate that
was renewed is good until its date, there is no list of those called back.
"""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from consilium.adapters.nvflare.kits import (
    AUTHORITY,
    COORDINATOR,
    RESEARCHER,
    Federation,
    certify,
    check_names,
    federation_of,
    say,
)
from consilium.adapters.whole_files import write_whole
from consilium.errors import ConfigError

CHANGES: Final = "changes"
_DISABLED: Final = "disabled_clients.json"  # NVFlare's name


def renew(folder: Path, parties: Sequence[str]) -> list[Path]:
    """Returns the changes that give `parties`, or everybody, a new certificate and TLS key.

    Raises:
        ConfigError: There is no authority in `folder`, or no such party.
    """
    says = authority_of(folder)
    wanted = tuple(parties) or _everybody(says)
    for party in wanted:
        _check_there(says, party)
    made = certify(says, folder)
    changed = [_certificates(folder, party, made[party] / "startup") for party in wanted]
    shutil.rmtree(folder / "work")
    return changed


def add(folder: Path, site: str) -> list[Path]:
    """Returns the new site's kit, and the changes of everybody else.

    Raises:
        ConfigError: There is no authority, or the name cannot be used.
    """
    before = authority_of(folder)
    if site in before.removed:
        raise ConfigError(
            f"a site {site} was removed and its certificate may still be good; expected a name "
            "that was never used"
        )
    check_names(before.name, *before.sites, site)
    kit = folder / "kits" / site
    if kit.exists():
        raise ConfigError(f"folder {kit} exists; expected none: move it away")
    says = replace(before, sites=tuple(sorted((*before.sites, site))))
    shutil.move(certify(says, folder)[site], kit)
    shutil.rmtree(folder / "work")
    say(says, site, kit)
    return [kit, *_tell(folder, says, [one for one in _everybody(says) if one != site])]


def remove(folder: Path, site: str) -> list[Path]:
    """Returns the changes of everybody who stays.

    Raises:
        ConfigError: There is no authority, no such site, or no other.
    """
    before = authority_of(folder)
    _check_there(before, site)
    if site not in before.sites or len(before.sites) == 1:
        raise ConfigError(f"{site} cannot be removed; expected one of several sites")
    says = replace(
        before,
        sites=tuple(one for one in before.sites if one != site),
        removed=(*before.removed, site),
    )
    return _tell(folder, says, _everybody(says))


def authority_of(folder: Path) -> Federation:
    """Returns what the authority in `folder` knows of its federation.

    Raises:
        ConfigError: There is none.
    """
    return federation_of(folder / AUTHORITY, AUTHORITY)


def _everybody(says: Federation) -> tuple[str, ...]:
    return (COORDINATOR, RESEARCHER, *says.sites)


def _check_there(says: Federation, party: str) -> None:
    if party not in _everybody(says):
        raise ConfigError(
            f"federation {says.name} has no party {party!r}; expected one of "
            f"{', '.join(_everybody(says))}"
        )


def _tell(folder: Path, says: Federation, parties: Iterable[str]) -> list[Path]:
    """Returns the changes that tell `parties` who is in the federation now."""
    changed = []
    for party in parties:
        change = _empty(folder, party)
        say(says, party, change)
        if party == COORDINATOR and says.removed:
            names = {"disabled_clients": says.removed}
            write_whole(change / _DISABLED, msgspec.json.encode(names))
        changed.append(change)
    say(says, AUTHORITY, folder / AUTHORITY)  # last: what was cut short can be asked for again
    return changed


def _certificates(folder: Path, party: str, startup: Path) -> Path:
    change = _empty(folder, party)
    shutil.move(startup, change / "startup")
    return change


def _empty(folder: Path, party: str) -> Path:
    change = folder / CHANGES / party
    shutil.rmtree(change, ignore_errors=True)
    change.mkdir(parents=True, mode=0o700)
    return change
