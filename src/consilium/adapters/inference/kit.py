# SPDX-License-Identifier: Apache-2.0
"""Who is who: addresses, keys and certificates of three operators and of the model's owner.

`make_kits` makes an authority and one folder for each party; the folder holds the only copy of
that party's key. Guarantees: TLS 1.3, both ends show a certificate of this authority, and a
party's role is the name in its certificate. The authority's key is needed for new kits only.
"""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from consilium.adapters.whole_files import write_whole
from consilium.errors import ConfigError

Role: TypeAlias = Literal["operator-0", "operator-1", "dealer", "owner"]
PARTIES: Final[tuple[Role, ...]] = ("operator-0", "operator-1", "dealer")  # by their number
ROLES: Final[tuple[Role, ...]] = (*PARTIES, "owner")
OPERATORS: Final = "operators.json"
_YEARS: Final = timedelta(days=825)


class Address(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a computing operator: where its own kind and the public reach it."""

    host: str
    link: int
    port: int


class Operators(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The two that compute, in order; public."""

    computing: tuple[Address, Address]


def make_kits(folder: Path, operators: Operators) -> None:
    """Writes an authority and a kit for each role into `folder`, which must be new.

    Raises:
        ConfigError: The folder is there already.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already; expected a new folder: choose another")
    folder.mkdir(parents=True, mode=0o700)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("consilium inference", authority_key.public_key(), None, authority_key)
    _write_key(folder / "authority.key", authority_key)
    for role in ROLES:
        kit = folder / role
        kit.mkdir(mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        number = {"operator-0": 0, "operator-1": 1}.get(role)
        host = None if number is None else operators.computing[number].host
        signed = _certificate(role, key.public_key(), host, authority_key)
        _write_key(kit / "key.pem", key)
        write_whole(kit / "certificate.pem", signed.public_bytes(serialization.Encoding.PEM))
        write_whole(kit / "authority.pem", authority.public_bytes(serialization.Encoding.PEM))
        write_whole(kit / OPERATORS, msgspec.json.encode(operators))
    write_whole(folder / "authority.pem", authority.public_bytes(serialization.Encoding.PEM))
    write_whole(folder / OPERATORS, msgspec.json.encode(operators))


def read_operators(folder: Path) -> Operators:
    """Returns the addresses in a kit, or in the public part of it.

    Raises:
        ConfigError: There are none.
    """
    try:
        return msgspec.json.decode((folder / OPERATORS).read_bytes(), type=Operators)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{folder / OPERATORS} cannot be read ({type(error).__name__}); expected a folder that "
            "`consilium inference setup` wrote"
        ) from None


def tls(kit: Path, *, server: bool) -> ssl.SSLContext:
    """Returns a context that shows the kit's certificate and asks the other end for one.

    Raises:
        ConfigError: The kit is not whole.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(kit / "certificate.pem", kit / "key.pem")
        context.load_verify_locations(kit / "authority.pem")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the kit {kit} cannot be used ({type(error).__name__}); expected key.pem, "
            "certificate.pem and authority.pem of one set-up: copy the whole kit again"
        ) from None
    return context


def role_of(certificate: object) -> str:
    """Returns the name in the certificate of the other end, as `getpeercert` gives it."""
    subject = certificate.get("subject", ()) if isinstance(certificate, dict) else ()
    names = {key: value for part in subject for key, value in part}
    return str(names.get("commonName", ""))


def _certificate(
    name: str,
    public: ec.EllipticCurvePublicKey,
    host: str | None,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    is_authority = public == authority_key.public_key()
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "consilium inference")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _YEARS)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([_named(host)]), critical=False)
    if not is_authority:
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _named(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with path.open("wb") as file:
        file.write(pem)
