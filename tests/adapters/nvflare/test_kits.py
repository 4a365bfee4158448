# SPDX-License-Identifier: Apache-2.0
"""Start-up kits: what provisioning makes, what we close in it, and who may open which."""

import json
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from consilium.errors import ConfigError, RemoteProtocolError

pytest.importorskip("nvflare")

from consilium.adapters.nvflare import kits
from consilium.adapters.nvflare.envelope import Reply, seal, unseal

CHEST = kits.Federation(name="chest", role="authority", sites=("a", "b"), host="localhost", port=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "chest"
    kits.provision(CHEST, folder)
    return folder


def kit(made: Path, name: str) -> Path:
    return made / "kits" / name


def says(made: Path, name: str) -> kits.Federation:
    return kits.federation_of(kit(made, name), name)


# -- Provisioning ---------------------------------------------------------------------


def test_each_party_gets_one_kit(made: Path) -> None:
    assert sorted(one.name for one in (made / "kits").iterdir()) == [
        "a",
        "b",
        "coordinator",
        "researcher",
    ]


def test_a_kit_says_whose_it_is(made: Path) -> None:
    says = kits.federation_of(kit(made, "a"))

    assert (says.name, says.role, says.sites) == ("chest", "a", ("a", "b"))
    assert (says.host, says.port) == ("localhost", 1)


def test_keys_are_for_their_owner_only(made: Path) -> None:
    secrets = [*made.glob("kits/*/startup/*.key"), *made.glob("authority/*.json")]

    assert len(secrets) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


def test_no_kit_holds_the_key_of_the_authority(made: Path) -> None:
    assert not list((made / "kits").rglob("cert.json"))
    assert not (made / "work").exists()


def test_the_authority_keeps_no_key_but_its_own(made: Path) -> None:
    kept = json.loads((made / "authority" / "cert.json").read_bytes())

    assert set(kept) == {"root_cert", "root_pri_key"}


@pytest.mark.parametrize("driver", ["grpc", "http"])
def test_the_driver_is_in_every_kit(tmp_path: Path, driver: kits.Driver) -> None:
    kits.provision(replace(CHEST, driver=driver), tmp_path / "new")

    for role, file in (("a", "client"), ("coordinator", "server"), ("researcher", "admin")):
        text = (tmp_path / "new" / "kits" / role / "startup" / f"fed_{file}.json").read_text()
        assert f'"scheme": "{driver}"' in text
        assert kits.federation_of(tmp_path / "new" / "kits" / role, role).driver == driver


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "coordinator", "researcher", "a" * 42])
def test_a_site_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a name here; expected lower-case"):
        kits.provision(replace(CHEST, sites=("b", name)), tmp_path / "new")

    assert not (tmp_path / "new").exists()


def test_a_site_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected each once"):
        kits.provision(replace(CHEST, sites=("b", "b")), tmp_path / "new")


def test_nothing_is_overwritten(made: Path) -> None:
    with pytest.raises(ConfigError, match="expected a new one"):
        kits.provision(replace(CHEST, sites=("a",)), made)


# -- Opening --------------------------------------------------------------------------


def test_another_partys_kit_is_refused(made: Path) -> None:
    with pytest.raises(ConfigError, match="is the kit of coordinator; expected one of a site"):
        kits.federation_of(kit(made, "coordinator"))
    with pytest.raises(ConfigError, match="is the kit of a; expected one of a researcher"):
        kits.federation_of(kit(made, "a"), kits.RESEARCHER)


def test_what_is_no_kit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no start-up kit"):
        kits.federation_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "link"), [("a", kits.SITE_LINK), ("coordinator", kits.COORDINATOR_LINK)]
)
def test_an_opened_kit_builds_one_component_and_takes_no_code(
    made: Path, name: str, link: str
) -> None:
    kits.prepare(kit(made, name), link, says(made, name), kits.Watching(metrics_port=9464))

    local = kit(made, name) / "local"
    resources = json.loads((local / "resources.json").read_bytes())
    rights = json.loads((local / "authorization.json").read_bytes())["permissions"]
    assert resources["class_allow_list"] == [link]
    assert resources["class_list_enforcement_mode"] == "enforce"
    assert resources["allow_log_streaming"] is False
    (keeper,) = [one for one in resources["components"] if one["path"] == kits.KEEPER]
    assert (keeper["args"]["host"], keeper["args"]["port"]) == ("127.0.0.1", 9464)
    assert {rights[role]["byoc"] for role in ("org_admin", "lead")} == {"none"}
    assert {rights[role]["shell_commands"] for role in ("org_admin", "lead")} == {"none"}


def test_a_coordinator_keeps_everything_in_its_kit(made: Path) -> None:
    says_it = says(made, "coordinator")
    kits.prepare(kit(made, "coordinator"), kits.COORDINATOR_LINK, says_it, kits.Watching())

    text = (kit(made, "coordinator") / "local" / "resources.json").read_text()
    assert "/tmp/nvflare" not in text  # noqa: S108 - NVFlare's default


def test_a_coordinator_that_was_not_served_says_how(made: Path) -> None:
    with pytest.raises(ConfigError, match="consilium coordinator serve KIT"):
        kits.coordinator_settings(kit(made, "researcher"))
    settings = kits.CoordinatorSettings(quorum_seconds=7)
    kits.settle_coordinator(kit(made, "coordinator"), settings)

    assert kits.coordinator_settings(kit(made, "coordinator")) == settings


# -- Envelopes ------------------------------------------------------------------------


def test_answers_come_back() -> None:
    assert unseal("a", seal(Reply((b"1", b"")))) == [b"1", b""]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (seal(Reply(refusal="no")), "site a refuses: no"),
        (b"junk", "cannot be read"),
        (seal(Reply((b"1",))) + b"x", "cannot be read"),
        (None, "no bytes"),
        ("text", "no bytes"),
    ],
)
def test_a_refusal_and_junk_name_the_site(data: object, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        unseal("a", data)
