# SPDX-License-Identifier: Apache-2.0
"""Certificates as the doctor sees them: a kit's own, and those of a real handshake.

In TLS 1.3 a client learns only after the handshake that its certificate was refused, so a word
is exchanged: the first frame of HTTP/2, or one request of HTTP/1.1 where the federation's
driver is http; then the coordinator's clock comes with its answer.
"""

import ssl
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from consilium.adapters.nvflare.finding import Finding, Trouble
from consilium.adapters.nvflare.kits import Federation
from consilium.adapters.nvflare.route import dial

MOST_SKEW: Final = 60.0  # seconds
_SOON: Final = timedelta(days=30)
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_RENEW: Final = "ask the federation's admin for: consilium federation renew FOLDER --party"
_CLOCK: Final = "set the clock (timedatectl set-ntp true)"
# OpenSSL's codes of verification, x509_vfy.h.
_NOT_YET, _EXPIRED = 9, 10
_OTHER_NAME: Final = frozenset({62, 64})
_OTHER_AUTHORITY: Final = frozenset({18, 19, 20, 21})


def own_certificate(kit: Path, role: str) -> Finding:
    """Returns whether the kit's certificate is of its authority and valid now.

    Raises:
        Trouble: It is not.
        OSError: It cannot be read.
    """
    name = "server" if (kit / "startup" / "server.crt").exists() else "client"
    own, authority = _read(kit, f"{name}.crt"), _read(kit, "rootCA.pem")
    now, until = datetime.now(UTC), own.not_valid_after_utc
    clock = f"this clock says {now:%Y-%m-%d %H:%M} UTC"
    try:
        own.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise Trouble(
            "the certificate is not of the authority in this kit: two kits were mixed",
            "copy the whole kit anew, or the whole folder of the change",
        ) from None
    if now < own.not_valid_before_utc:
        since = f"{own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise Trouble(f"valid only from {since}; {clock}", f"{_CLOCK}: it is behind")
    if now > until:
        raise Trouble(
            f"expired on {until.date()}; {clock}",
            f"{_CLOCK} if that is wrong, else {_RENEW} {role}",
        )
    soon = until - now < _SOON
    return Finding(
        check="certificate",
        well=True,
        found=f"valid until {until.date()}; {clock}",
        mend=f"it ends within 30 days: {_RENEW} {role}" if soon else "",
    )


def _read(kit: Path, name: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate((kit / "startup" / name).read_bytes())
    except (OSError, ValueError) as error:
        raise Trouble(
            f"{name} cannot be read ({type(error).__name__})", "copy the whole kit anew"
        ) from None


# -- A handshake ----------------------------------------------------------------------


def handshake(kit: Path, says: Federation) -> tuple[Finding, float | None]:
    """Returns whether both ends believe each other, and how far this clock is ahead, if known.

    Raises:
        Trouble: One does not.
        OSError: Nobody answers.
    """
    http = says.driver == "http"
    try:
        context = ssl.create_default_context(cafile=str(kit / "startup" / "rootCA.pem"))
        context.load_cert_chain(kit / "startup" / "client.crt", kit / "startup" / "client.key")
        context.set_alpn_protocols(["http/1.1" if http else "h2"])
        with (
            dial(says) as plain,
            context.wrap_socket(plain, server_hostname=says.host) as made,
        ):
            version, peer = made.version(), made.getpeercert() or {}
            answer = _exchange(made, says if http else None)
    except ssl.SSLCertVerificationError as error:
        raise _not_believed(error.verify_code, error.verify_message, says) from None
    except ssl.SSLError as error:
        raise _not_welcome(error.reason or str(error), says.role) from None
    if not answer:
        raise Trouble(
            "the coordinator ends the connection after the handshake",
            "a proxy that opens TLS must let this host pass; else the coordinator refuses this "
            "certificate: copy the whole kit anew",
        )
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(peer["notAfter"])), UTC)
    found = f"{version}, the coordinator is certified by this federation until {until.date()}"
    soon = until - datetime.now(UTC) < _SOON
    mend = f"that ends within 30 days: {_RENEW} coordinator" if soon else ""
    return Finding(check="mutual TLS", well=True, found=found, mend=mend), _skew(answer)


def _exchange(made: ssl.SSLSocket, http: Federation | None) -> bytes:
    """Returns the first bytes of the other end."""
    request = _PREFACE
    if http is not None:
        request = f"GET / HTTP/1.1\r\nHost: {http.host}\r\nConnection: close\r\n\r\n".encode()
    try:
        made.sendall(request)
        return made.recv(4096)
    except (ConnectionError, ssl.SSLEOFError):
        return b""


def _not_believed(code: int, words: str, says: Federation) -> Trouble:
    """Returns what is wrong with the coordinator's certificate."""
    coordinator = f"coordinator's certificate: {words}"
    if code == _EXPIRED:
        mend = f"{_CLOCK} if it is ahead, else {_RENEW} coordinator"
        return Trouble(f"the {coordinator}", mend)
    if code == _NOT_YET:
        return Trouble(f"the {coordinator}", f"{_CLOCK}: it is behind")
    if code in _OTHER_NAME:
        mend = f"{says.host} is not the name it was certified for: init with another --host"
        return Trouble(f"the {coordinator}", mend)
    if code in _OTHER_AUTHORITY:
        return Trouble(
            f"the {coordinator}: it is of another authority",
            "a proxy that opens TLS must let this host pass; else kit and coordinator are of "
            "two federations: copy the kit of this one",
        )
    return Trouble(f"the {coordinator}", "ask the federation's admin to look at it")


def _not_welcome(reason: str, role: str) -> Trouble:
    """Returns why the coordinator, or what stands before it, ended the handshake."""
    words = reason.replace("_", " ").lower()
    if "expired" in words:
        return Trouble(f"the coordinator refuses this certificate: {words}", f"{_RENEW} {role}")
    if any(one in words for one in ("unknown ca", "certificate", "decrypt error")):
        return Trouble(
            f"the coordinator refuses this certificate: {words}",
            "this kit is of another federation or mixed: copy the whole kit anew",
        )
    return Trouble(
        f"no TLS is spoken there: {words}", "check host and port; a proxy may stand between"
    )


def _skew(answer: bytes) -> float | None:
    for line in answer.split(b"\r\n\r\n")[0].splitlines():
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"date":
            there = parsedate_to_datetime(value.decode("ascii", "replace").strip())
            return (datetime.now(UTC) - there).total_seconds()
    return None


def clock(skew: float | None, how: str) -> Finding:
    """Returns what the doctor says of a clock that is `skew` seconds ahead of the coordinator's.

    Raises:
        Trouble: It is too far off.
    """
    if skew is None:
        found = "not compared with the coordinator's yet: that is done when this site joins"
        return Finding(check="clock", well=True, found=found)
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the coordinator's, {how}"
    if abs(skew) > MOST_SKEW:
        raise Trouble(found, f"{_CLOCK}, here or there; expected at most {MOST_SKEW:.0f} s")
    return Finding(check="clock", well=True, found=found)
