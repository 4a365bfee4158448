# SPDX-License-Identifier: Apache-2.0
"""What may keep a site from taking part, looked at before it joins; each with how to mend it.

Every connection goes out: a hospital opens no port. Not seen here: proxies that let a handshake
pass but end long connections; and over gRPC, a clock that is wrong within the certificate's
validity before the first joining (it is compared then, see `keeper`).
"""

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

import torch

from consilium.adapters.nvflare.certificates import clock, handshake, own_certificate
from consilium.adapters.nvflare.finding import Check, Finding, Trouble, examined
from consilium.adapters.nvflare.keeper import last_skew
from consilium.adapters.nvflare.kits import Federation
from consilium.adapters.nvflare.route import WAY_OUT, dial, ignored_proxy, proxy_for

_LEAST_DISK: Final = 1 << 30  # bytes
_SLOW: Final = 0.5  # seconds there and back


def examine(kit: Path, says: Federation, data: Path | None) -> list[Finding]:
    """Returns a finding for each check, in the order in which to mend them."""
    network = _Network(kit, says)
    checks: list[tuple[str, str, Check]] = [
        ("certificate", "copy the whole kit anew", lambda: own_certificate(kit, says.role)),
        ("disk", "mount the kit's disk", lambda: _disk(kit)),
        ("ledger's folder", _own_it(kit), lambda: _durable(kit / "consilium")),
        ("records", "let this user read the folder", lambda: _records(data)),
        ("GPU", "", _gpu),
        ("name", "ask for DNS, or add the coordinator to /etc/hosts", lambda: _name(says)),
        ("proxy", WAY_OUT, lambda: _proxy(says, os.environ)),
        ("port", "start the coordinator; open this one port outwards", lambda: _port(says)),
        ("mutual TLS", "start the coordinator", network.tls),
        ("clock", "", network.clock),
    ]
    return [examined(*check) for check in checks]


# -- This machine ---------------------------------------------------------------------


def _disk(kit: Path) -> Finding:
    free = shutil.disk_usage(kit).free
    found = f"{free / 2**30:.1f} GiB free"
    if free < _LEAST_DISK:
        raise Trouble(found, "free at least 1 GiB where the kit lies")
    return Finding(check="disk", well=True, found=found)


def _own_it(kit: Path) -> str:
    return f"give this user the kit: chown -R $USER {kit}; or free some of the disk"


def _durable(folder: Path) -> Finding:
    """Writes and syncs, as a charge must be before anything leaves."""
    began = time.monotonic()
    with tempfile.NamedTemporaryFile(dir=folder, prefix="doctor-") as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())
    seconds = time.monotonic() - began
    found = f"4 kB are on the disk after {seconds * 1e3:.0f} ms"
    return Finding(check="ledger's folder", well=True, found=found)


def _records(data: Path | None) -> Finding:
    if data is None:
        return Finding(check="records", well=True, found="no folder named")
    if not (data.is_dir() and os.access(data, os.R_OK)):
        mend = "name the folder with --data, and let this user read it"
        raise Trouble(f"{data} is not readable", mend)
    return Finding(check="records", well=True, found=f"{data} is readable")


def _gpu() -> Finding:
    """Never fails: a site without one computes more slowly, and the same."""
    found = [
        f"{torch.cuda.get_device_name(k)}, {torch.cuda.mem_get_info(k)[0] / 2**30:.1f} of "
        f"{torch.cuda.mem_get_info(k)[1] / 2**30:.1f} GiB free"
        for k in range(torch.cuda.device_count())
    ]
    return Finding(check="GPU", well=True, found="; ".join(found) or "none: computes on the CPU")


# -- The way to the coordinator -------------------------------------------------------


def _name(says: Federation) -> Finding:
    found = sorted({str(one[4][0]) for one in socket.getaddrinfo(says.host, says.port)})
    return Finding(check="name", well=True, found=f"{says.host} is {', '.join(found)}")


def _proxy(says: Federation, environment: Mapping[str, str]) -> Finding:
    """Asks the proxy, if one is set, whether it lets the coordinator's port pass."""
    asked, ignored = proxy_for(says, environment), ignored_proxy(says, environment)
    if asked is not None:
        dial(says, environment).close()
        found = f"{asked} lets {says.host}:{says.port} pass"
    elif ignored is not None:
        found = f"{ignored} is set; the {says.driver} driver does not use it and goes straight"
    else:
        found = "none is set"
    return Finding(check="proxy", well=True, found=found)


def _port(says: Federation) -> Finding:
    began = time.monotonic()
    dial(says).close()
    seconds = time.monotonic() - began
    found = f"{says.host}:{says.port} answers in {seconds * 1e3:.0f} ms"
    if seconds > _SLOW:
        raise Trouble(found, "a slow line delays every round: ask your network's people")
    return Finding(check="port", well=True, found=found)


@final
class _Network:
    """A handshake, and the clock that may come with it."""

    def __init__(self, kit: Path, says: Federation) -> None:
        self._kit, self._says = kit, says
        self._skew, self._how = last_skew(kit), "when this site joined last"

    def tls(self) -> Finding:
        finding, skew = handshake(self._kit, self._says)
        if skew is not None:
            self._skew, self._how = skew, "by its answer just now"
        return finding

    def clock(self) -> Finding:
        return clock(self._skew, self._how)
