# SPDX-License-Identifier: Apache-2.0
"""Where an office may listen, and the command that does it, as a process."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from consilium.adapters.office.office import found_office
from consilium.errors import ConfigError
from consilium.web.serving import Listening


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "office.example"])  # noqa: S104
def test_plain_http_stays_on_this_machine(host: str) -> None:
    with pytest.raises(ConfigError, match="in the clear"):
        Listening(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_may_use_plain_http(host: str) -> None:
    assert Listening(host=host).certificate is None


def test_a_proxy_that_ends_tls_is_named_by_its_https_address() -> None:
    assert Listening(host="0.0.0.0", proxied_as="https://office.example").proxied_as  # noqa: S104
    with pytest.raises(ConfigError, match="https"):
        Listening(host="0.0.0.0", proxied_as="http://office.example")  # noqa: S104


def test_a_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="both or none"):
        Listening(certificate=Path("chain.pem"))


def test_the_command_prints_the_first_link_once_and_serves(tmp_path: Path) -> None:
    folder = tmp_path / "office"
    found_office(folder, "charite", "site").close()
    words = ["serve", str(folder), "--courier-seconds=0"]
    command = [sys.executable, "-c", "from consilium.cli.app import main; main()", *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        link = process.stdout.readline().split()[-1]
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=5), timeout=30) as client:
                found = client.get(f"{address}/healthz")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    assert found.json() == {"status": "ok"}
    assert re.fullmatch(re.escape(address) + r"/links/[\w-]{43}", link)
