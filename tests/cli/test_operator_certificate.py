# SPDX-License-Identifier: Apache-2.0
"""Which certificate an operator shows to patients."""

from pathlib import Path

import pytest

from consilium.adapters.inference.kit import Address, Operators, make_kits
from consilium.cli.encrypted import public_certificate
from consilium.cli.inferring import OperatorRequest
from consilium.errors import ConfigError


def request(kit: Path, certificate: Path | None, key: Path | None) -> OperatorRequest:
    return OperatorRequest(
        party=0, kit=kit, data=None, origins=(), stock=1, certificate=certificate, key=key
    )


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "kits"
    make_kits(folder, Operators((Address("a.example", 1, 2), Address("b.example", 1, 2))))
    return folder


def test_without_another_it_is_the_kits_own(kits: Path) -> None:
    kit = kits / "operator-0"

    assert public_certificate(request(kit, None, None)) == (
        kit / "certificate.pem",
        kit / "key.pem",
    )


def test_another_one_is_taken(kits: Path) -> None:
    pair = (kits / "owner" / "certificate.pem", kits / "owner" / "key.pem")

    assert public_certificate(request(kits / "operator-0", *pair)) == pair


def test_one_of_the_two_is_refused(kits: Path) -> None:
    with pytest.raises(ConfigError, match="expected both or neither"):
        public_certificate(request(kits / "operator-0", kits / "owner" / "certificate.pem", None))


def test_a_key_of_another_certificate_is_refused(kits: Path) -> None:
    mixed = (kits / "owner" / "certificate.pem", kits / "dealer" / "key.pem")

    with pytest.raises(ConfigError, match=r"certificate\.pem cannot be used"):
        public_certificate(request(kits / "operator-0", *mixed))
