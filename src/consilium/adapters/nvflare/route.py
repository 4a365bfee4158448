# SPDX-License-Identifier: Apache-2.0
"""The way from this machine to the coordinator, as NVFlare's driver will take it.

gRPC asks the proxy of the environment (`grpc_proxy`, `https_proxy`, `http_proxy`, in lower case;
`no_proxy` excepts hosts) to let it through by CONNECT. NVFlare's http driver asks none.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from consilium.adapters.nvflare.finding import Trouble
from consilium.adapters.nvflare.kits import Federation

PATIENCE: Final = 10.0  # seconds
_NAMES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPT: Final = ("no_grpc_proxy", "no_proxy")
WAY_OUT: Final = "ask for a rule that lets it pass, or for a federation of --driver http --port 443"


def dial(says: Federation, environment: Mapping[str, str] = os.environ) -> socket.socket:
    """Returns a connection to the coordinator's port.

    Raises:
        Trouble: A proxy does not let it pass.
        OSError: Nobody answers.
    """
    proxy = proxy_for(says, environment)
    if proxy is None:
        return socket.create_connection((says.host, says.port), timeout=PATIENCE)
    where, target = urlsplit(proxy if "//" in proxy else f"//{proxy}"), f"{says.host}:{says.port}"
    made = socket.create_connection((where.hostname or "", where.port or 80), timeout=PATIENCE)
    made.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    said = made.recv(4096).split(b"\r\n")[0].decode("latin-1")
    if said.split()[1:2] != ["200"]:
        made.close()
        raise Trouble(f"{proxy} does not let {target} pass: {said or 'no word'}", WAY_OUT)
    return made


def proxy_for(says: Federation, environment: Mapping[str, str]) -> str | None:
    """Returns the proxy that the driver will ask, or None."""
    if says.driver == "http":
        return None
    excepted = ",".join(environment.get(name, "") for name in _EXCEPT).split(",")
    ends = [one.strip().lstrip(".") for one in excepted if one.strip()]
    if any(says.host == end or says.host.endswith(f".{end}") for end in ends):
        return None
    return next((environment[name] for name in _NAMES if environment.get(name)), None)


def ignored_proxy(says: Federation, environment: Mapping[str, str]) -> str | None:
    """Returns the variable of a proxy that other programs take and the driver does not."""
    if proxy_for(says, environment) is not None:
        return None
    names = ("HTTPS_PROXY", "HTTP_PROXY", *(_NAMES if says.driver == "http" else ()))
    return next((name for name in names if environment.get(name)), None)
