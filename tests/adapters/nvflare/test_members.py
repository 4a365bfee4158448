# SPDX-License-Identifier: Apache-2.0
"""Certificates renewed, sites added and removed: what each party gets, and what stays."""

import json
import stat
from pathlib import Path

import pytest
from cryptography import x509

from consilium.errors import ConfigError

pytest.importorskip("nvflare")

from consilium.adapters.nvflare import kits, members

CHEST = kits.Federation(name="chest", role="authority", sites=("a", "b"), host="localhost", port=1)


@pytest.fixture
def chest(tmp_path: Path) -> Path:
    kits.provision(CHEST, tmp_path / "chest")
    return tmp_path / "chest"


def certificate(folder: Path, name: str = "client") -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "startup" / f"{name}.crt").read_bytes())


def authority(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "startup" / "rootCA.pem").read_bytes())


# -- Renewing -------------------------------------------------------------------------


def test_a_renewed_certificate_is_of_the_same_authority_and_name(chest: Path) -> None:
    changed = members.renew(chest, ["a"])

    new, old = chest / "changes" / "a", chest / "kits" / "a"
    assert changed == [new]
    certificate(new).verify_directly_issued_by(authority(old))
    assert certificate(new).subject == certificate(old).subject
    assert certificate(new).serial_number != certificate(old).serial_number
    assert (new / "startup" / "client.key").read_bytes() != (
        old / "startup" / "client.key"
    ).read_bytes()


def test_a_change_holds_certificates_and_nothing_of_a_site(chest: Path) -> None:
    members.renew(chest, ["a"])

    assert [path.name for path in (chest / "changes" / "a").iterdir()] == ["startup"]
    key = chest / "changes" / "a" / "startup" / "client.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_everybody_is_renewed_where_nobody_is_named(chest: Path) -> None:
    changed = members.renew(chest, ())

    assert [one.name for one in changed] == ["coordinator", "researcher", "a", "b"]
    server = certificate(chest / "changes" / "coordinator", "server")
    server.verify_directly_issued_by(authority(chest / "kits" / "a"))
    assert not (chest / "work").exists()


def test_kits_need_not_be_here_to_be_renewed(chest: Path) -> None:
    for kit in (chest / "kits").iterdir():
        kit.rename(chest / f"moved-{kit.name}")

    assert len(members.renew(chest, ())) == 4


def test_somebody_else_is_not_renewed(chest: Path) -> None:
    with pytest.raises(ConfigError, match="no party 'eve'; expected one of coordinator"):
        members.renew(chest, ["eve"])


def test_without_an_authority_nothing_is_certified(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a folder of"):
        members.renew(tmp_path, ())


# -- Adding and removing --------------------------------------------------------------


def test_a_new_site_gets_a_kit_and_the_others_hear_of_it(chest: Path) -> None:
    made = members.add(chest, "c")

    assert made[0] == chest / "kits" / "c"
    certificate(made[0]).verify_directly_issued_by(authority(chest / "kits" / "a"))
    assert kits.federation_of(made[0]).sites == ("a", "b", "c")
    for role in ("coordinator", "researcher", "a", "b"):
        change = chest / "changes" / role
        assert kits.federation_of(change, role).sites == ("a", "b", "c")
        assert not (change / "startup").exists()
    assert members.authority_of(chest).sites == ("a", "b", "c")


@pytest.mark.parametrize("name", ["a", "coordinator", "A b"])
def test_a_name_that_is_taken_or_odd_is_not_added(chest: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        members.add(chest, name)

    assert members.authority_of(chest).sites == ("a", "b")


def test_a_removed_site_is_refused_by_name(chest: Path) -> None:
    changed = members.remove(chest, "b")

    assert [one.name for one in changed] == ["coordinator", "researcher", "a"]
    refused = json.loads((chest / "changes" / "coordinator" / "disabled_clients.json").read_bytes())
    assert refused == {"disabled_clients": ["b"]}
    assert kits.federation_of(chest / "changes" / "a").sites == ("a",)


def test_a_removed_name_is_never_given_again(chest: Path) -> None:
    members.remove(chest, "b")

    with pytest.raises(ConfigError, match="expected a name that was never used"):
        members.add(chest, "b")


def test_who_was_removed_is_remembered_by_later_changes(chest: Path) -> None:
    members.remove(chest, "b")
    members.add(chest, "c")
    members.remove(chest, "a")

    refused = json.loads((chest / "changes" / "coordinator" / "disabled_clients.json").read_bytes())
    assert refused == {"disabled_clients": ["b", "a"]}
    assert not list((chest / "changes" / "coordinator").glob("startup"))


def test_the_last_site_and_the_coordinator_stay(chest: Path) -> None:
    with pytest.raises(ConfigError, match="coordinator cannot be removed"):
        members.remove(chest, "coordinator")
    members.remove(chest, "b")
    with pytest.raises(ConfigError, match="a cannot be removed"):
        members.remove(chest, "a")
