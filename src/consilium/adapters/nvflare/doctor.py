# SPDX-License-Identifier: Apache-2.0
"""What may keep a site from taking part, looked at before it joins; each with how to mend it.

Every connection goes out: a hospital opens no port. Not seen here: a clock that is wrong within
the certificate's validity, and proxies that let a handshake pass but end long connections.
"""

import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

import msgspec
from cryptography import x509

from consilium.adapters.nvflare.kits import Federation

_LEAST_DISK: Final = 1 << 30  # bytes
_PATIENCE: Final = 10.0  # seconds
_SLOW: Final = 0.5  # seconds there and back


@final
class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check.

    Attributes:
        check: What was looked at.
        well: Whether it lets the site take part.
        found: What was found.
        mend: What to do; empty where it is well.
    """

    check: str
    well: bool
    found: str
    mend: str = ""


def examine(kit: Path, says: Federation, data: Path | None) -> list[Finding]:
    """Returns a finding for each check, in the order in which to mend them."""
    checks: list[Callable[[], Finding]] = [
        lambda: _certificate(kit),
        lambda: _disk(kit),
        lambda: _writable(kit),
        lambda: _records(data),
        lambda: _name(says),
        lambda: _port(says),
        lambda: _tls(kit, says),
    ]
    return [check() for check in checks]


def _certificate(kit: Path) -> Finding:
    """Also finds a clock that is years, or before the provisioning, off."""
    path = kit / "startup" / "client.crt"
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        return Finding(
            check="certificate",
            well=False,
            found=f"{path.name} cannot be read ({type(error).__name__})",
            mend="copy the whole kit anew",
        )
    now, until = datetime.now(UTC), found.not_valid_after_utc
    well = found.not_valid_before_utc <= now <= until
    return Finding(
        check="certificate and clock",
        well=well,
        found=f"valid until {until.date()}; this clock says {now:%Y-%m-%d %H:%M} UTC",
        mend="" if well else "set the clock (timedatectl set-ntp true), or ask for a new kit",
    )


def _disk(kit: Path) -> Finding:
    free = shutil.disk_usage(kit).free
    return Finding(
        check="disk",
        well=free >= _LEAST_DISK,
        found=f"{free / 2**30:.1f} GiB free",
        mend="" if free >= _LEAST_DISK else "free at least 1 GiB where the kit lies",
    )


def _writable(kit: Path) -> Finding:
    well = os.access(kit, os.W_OK) and os.access(kit / "consilium", os.W_OK)
    return Finding(
        check="ledger's folder",
        well=well,
        found="writable" if well else "read-only",
        mend="" if well else f"give this user the kit: chown -R $USER {kit}",
    )


def _records(data: Path | None) -> Finding:
    well = data is None or (data.is_dir() and os.access(data, os.R_OK))
    return Finding(
        check="records",
        well=well,
        found="no folder named" if data is None else f"{data} is {'' if well else 'not '}readable",
        mend="" if well else "name the folder with --data, and let this user read it",
    )


def _name(says: Federation) -> Finding:
    try:
        found = sorted({str(one[4][0]) for one in socket.getaddrinfo(says.host, says.port)})
    except OSError as error:
        return Finding(
            check="name",
            well=False,
            found=f"{says.host}: {error.strerror or error}",
            mend="ask your network's people for DNS, or add the coordinator to /etc/hosts",
        )
    return Finding(check="name", well=True, found=f"{says.host} is {', '.join(found)}")


def _port(says: Federation) -> Finding:
    began = time.monotonic()
    try:
        with socket.create_connection((says.host, says.port), timeout=_PATIENCE):
            seconds = time.monotonic() - began
    except OSError as error:
        return Finding(
            check="port",
            well=False,
            found=f"{says.host}:{says.port}: {error.strerror or error}",
            mend="start the coordinator; open this one port outwards in the firewall",
        )
    return Finding(
        check="port and round trip",
        well=seconds < _SLOW,
        found=f"{says.host}:{says.port} answers in {seconds * 1e3:.0f} ms",
        mend="" if seconds < _SLOW else "a slow line delays every round: ask your network's people",
    )


def _tls(kit: Path, says: Federation) -> Finding:
    startup = kit / "startup"
    try:
        context = ssl.create_default_context(cafile=str(startup / "rootCA.pem"))
        context.load_cert_chain(startup / "client.crt", startup / "client.key")
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((says.host, says.port), timeout=_PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=says.host) as made,
        ):
            version = made.version()
    except OSError as error:
        return Finding(
            check="mutual TLS",
            well=False,
            found=f"{getattr(error, 'verify_message', '') or error.strerror or error}",
            mend="a proxy that opens TLS must let this host pass; else the kit is of another CA",
        )
    return Finding(check="mutual TLS", well=True, found=f"{version}, certified by this federation")
