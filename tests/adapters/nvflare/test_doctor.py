# SPDX-License-Identifier: Apache-2.0
"""The doctor on real certificates, a real TLS server and a real proxy: each trouble by its name."""

import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from msgspec.structs import replace

pytest.importorskip("nvflare")

import msgspec

from consilium.adapters.nvflare import doctor, keeper, kits
from consilium.adapters.nvflare.finding import Finding
from consilium.adapters.nvflare.kits import Federation

CHEST = Federation(name="chest", role="authority", sites=("a", "b"), host="localhost", port=1)
DAY = timedelta(days=1)
NOW = datetime.now(UTC)
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty SETTINGS frame of HTTP/2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "chest"
    kits.provision(CHEST, folder)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "chest"
    kits.provision(CHEST, folder)
    return folder


@pytest.fixture
def kit(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "kits" / "a", tmp_path / "a")
    return tmp_path / "a"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in os.environ if one.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


def findings(kit: Path, data: Path | None = None, **changes: object) -> dict[str, Finding]:
    says = replace(kits.federation_of(kit), **changes)
    return {one.check: one for one in doctor.examine(kit, says, data)}


# -- Certificates ---------------------------------------------------------------------


def reissue(made: Path, kit: Path, name: str, since: datetime, until: datetime) -> None:
    """Replaces a certificate by one of the same authority with other dates."""
    root = msgspec.json.decode((made / "authority" / "cert.json").read_bytes())
    key = serialization.load_pem_private_key(root["root_pri_key"].encode(), None)
    assert isinstance(key, RSAPrivateKey)
    path = kit / "startup" / f"{name}.crt"
    old = x509.load_pem_x509_certificate(path.read_bytes())
    new = x509.CertificateBuilder().subject_name(old.subject).issuer_name(old.issuer)
    new = new.public_key(old.public_key()).serial_number(x509.random_serial_number())
    new = new.not_valid_before(since).not_valid_after(until)
    for extension in old.extensions:
        new = new.add_extension(extension.value, extension.critical)
    signed = new.sign(key, hashes.SHA256())
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def test_an_expired_certificate_is_found(made: Path, kit: Path) -> None:
    reissue(made, kit, "client", NOW - 400 * DAY, NOW - 3 * DAY)

    found = findings(kit)["certificate"]

    assert not found.well
    assert f"expired on {(NOW - 3 * DAY).date()}" in found.found
    assert "consilium federation renew FOLDER --party a" in found.mend


def test_a_clock_that_is_behind_the_provisioning_is_found(made: Path, kit: Path) -> None:
    reissue(made, kit, "client", NOW + timedelta(minutes=10), NOW + 300 * DAY)

    found = findings(kit)["certificate"]

    assert (found.well, found.mend) == (
        False,
        "set the clock (timedatectl set-ntp true): it is behind",
    )


def test_a_certificate_of_another_authority_is_found(other: Path, kit: Path) -> None:
    shutil.copy(other / "kits" / "a" / "startup" / "client.crt", kit / "startup")

    assert "not of the authority in this kit" in findings(kit)["certificate"].found


@pytest.mark.parametrize(("days", "warned"), [(29, True), (31, False)])
def test_a_certificate_that_ends_soon_is_well_with_a_warning(
    made: Path, kit: Path, days: int, warned: bool
) -> None:
    reissue(made, kit, "client", NOW - DAY, NOW + days * DAY)

    found = findings(kit)["certificate"]

    assert (found.well, "ends within 30 days" in found.mend) == (True, warned)


def test_a_kit_without_its_certificate_is_found(kit: Path) -> None:
    (kit / "startup" / "client.crt").unlink()

    assert findings(kit)["certificate"].mend == "copy the whole kit anew"


# -- A handshake ----------------------------------------------------------------------


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Gives the port of a server that plays `answer` with everybody who comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def play() -> None:
            while True:
                try:
                    came, _ = server.accept()
                except OSError:
                    return
                with came:
                    try:
                        answer(came)
                    except OSError:
                        continue

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@contextmanager
def coordinator(kit: Path, said: bytes = SETTINGS) -> Iterator[int]:
    """Gives the port of a server with the coordinator's certificate that asks for one."""
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=str(kit / "startup" / "rootCA.pem")
    )
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(kit / "startup" / "server.crt", kit / "startup" / "server.key")

    def answer(came: socket.socket) -> None:
        with context.wrap_socket(came, server_side=True, do_handshake_on_connect=False) as made:
            try:
                made.do_handshake()
            except ssl.SSLError:
                time.sleep(0.1)  # what is said of it must be heard before the line is cut
                return
            made.recv(4096)
            made.sendall(said)

    with listening(answer) as port:
        yield port


@pytest.fixture
def server(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "kits" / "coordinator", tmp_path / "coordinator")
    return tmp_path / "coordinator"


def test_two_of_one_federation_believe_each_other(kit: Path, server: Path) -> None:
    with coordinator(server) as port:
        found = findings(kit, port=port)

    assert all(one.well for one in found.values())
    assert found["mutual TLS"].found.startswith("TLSv1.3, the coordinator is certified by this")
    assert found["mutual TLS"].mend == ""


def test_a_coordinators_certificate_that_ends_soon_is_warned_of(
    made: Path, kit: Path, server: Path
) -> None:
    reissue(made, server, "server", NOW - DAY, NOW + 20 * DAY)

    with coordinator(server) as port:
        found = findings(kit, port=port)["mutual TLS"]

    assert found.well
    assert "consilium federation renew FOLDER --party coordinator" in found.mend


def test_a_coordinator_of_another_authority_is_found(kit: Path, other: Path) -> None:
    with coordinator(other / "kits" / "coordinator") as port:
        found = findings(kit, port=port)["mutual TLS"]

    assert "it is of another authority" in found.found
    assert "copy the kit of this one" in found.mend


def test_a_coordinator_with_an_expired_certificate_is_found(
    made: Path, kit: Path, server: Path
) -> None:
    reissue(made, server, "server", NOW - 400 * DAY, NOW - DAY)

    with coordinator(server) as port:
        found = findings(kit, port=port)["mutual TLS"]

    assert "certificate has expired" in found.found
    assert "consilium federation renew FOLDER --party coordinator" in found.mend


def test_a_coordinator_under_another_name_is_found(kit: Path, server: Path) -> None:
    with coordinator(server) as port:
        found = findings(kit, port=port, host="127.0.0.1")["mutual TLS"]

    assert "not the name it was certified for" in found.mend


def test_a_site_whose_certificate_is_refused_is_told(made: Path, kit: Path, server: Path) -> None:
    reissue(made, kit, "client", NOW - 400 * DAY, NOW - DAY)

    with coordinator(server) as port:
        found = findings(kit, port=port)["mutual TLS"]

    assert "the coordinator refuses this certificate" in found.found
    assert "consilium federation renew FOLDER --party a" in found.mend


def test_a_site_of_another_authority_is_told(other: Path, kit: Path, server: Path) -> None:
    for name in ("client.crt", "client.key"):
        shutil.copy(other / "kits" / "a" / "startup" / name, kit / "startup")

    with coordinator(server) as port:
        found = findings(kit, port=port)["mutual TLS"]

    assert "of another federation or mixed" in found.mend


def test_a_port_that_speaks_no_tls_is_found(kit: Path) -> None:
    with listening(lambda came: came.sendall(b"220 mail ready\r\n")) as port:
        found = findings(kit, port=port)["mutual TLS"]

    assert "no TLS is spoken there" in found.found


# -- Clocks ---------------------------------------------------------------------------


def dated(when: datetime) -> bytes:
    return f"HTTP/1.1 404 No\r\nDate: {format_datetime(when, usegmt=True)}\r\n\r\n".encode()


@pytest.mark.parametrize(("minutes", "well"), [(0, True), (10, False), (-10, False)])
def test_a_clock_is_compared_with_an_http_coordinators(
    kit: Path, server: Path, minutes: int, well: bool
) -> None:
    with coordinator(server, dated(datetime.now(UTC) + timedelta(minutes=minutes))) as port:
        found = findings(kit, port=port, driver="http")["clock"]

    assert found.well == well
    assert well or "timedatectl set-ntp true" in found.mend
    assert well or ("behind" if minutes > 0 else "ahead of") in found.found


def test_a_skew_that_was_measured_at_joining_is_remembered(kit: Path) -> None:
    keeper.note_skew(kit, -600.0)

    found = findings(kit)["clock"]

    assert (found.well, found.found) == (
        False,
        "600 s behind the coordinator's, when this site joined last",
    )


def test_a_clock_that_was_never_compared_is_said_to_be(kit: Path) -> None:
    keeper.note_skew(kit, None)

    assert "not compared with the coordinator's yet" in findings(kit)["clock"].found


# -- Proxies --------------------------------------------------------------------------


def through(target: int) -> Callable[[socket.socket], None]:
    """Returns a proxy that lets one port pass."""

    def answer(came: socket.socket) -> None:
        asked = came.recv(4096).split()[1].decode()
        if asked != f"localhost:{target}":
            came.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        came.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", target)) as there:
            back = threading.Thread(target=pump, args=(there, came))
            back.start()
            pump(came, there)
            back.join(5)

    return answer


def pump(one: socket.socket, two: socket.socket) -> None:
    try:
        while data := one.recv(4096):
            two.sendall(data)
        two.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_everything_goes_through_a_proxy_that_lets_it(
    kit: Path, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with coordinator(server) as port, listening(through(port)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy}")
        found = findings(kit, port=port)

    assert [one for one in found.values() if not one.well] == []
    assert f"lets localhost:{port} pass" in found["proxy"].found


def test_a_proxy_that_refuses_the_port_is_found(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(through(443)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy}")
        found = findings(kit, port=8002)

    for check in ("proxy", "port", "mutual TLS"):
        assert "does not let localhost:8002 pass: HTTP/1.1 403" in found[check].found
        assert "--driver http --port 443" in found[check].mend


@pytest.mark.parametrize(
    ("driver", "name"), [("grpc", "HTTPS_PROXY"), ("http", "HTTPS_PROXY"), ("http", "https_proxy")]
)
def test_a_proxy_that_the_driver_ignores_is_named(
    kit: Path, monkeypatch: pytest.MonkeyPatch, driver: str, name: str
) -> None:
    monkeypatch.setenv(name, "http://proxy.invalid:3128")

    assert f"{name} is set; the {driver} driver does not use it" in (
        findings(kit, driver=driver)["proxy"].found
    )


def test_an_excepted_host_needs_no_proxy(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    monkeypatch.setenv("no_proxy", "example.org, localhost")

    assert findings(kit)["proxy"].found == "none is set"


# -- The machine ----------------------------------------------------------------------


def test_a_machine_without_a_coordinator_is_told_what_to_mend(kit: Path) -> None:
    found = findings(kit)

    assert {check for check, one in found.items() if not one.well} == {"port", "mutual TLS"}
    assert "start the coordinator" in found["port"].mend
    assert all(one.well or one.mend for one in found.values())


def test_a_name_that_nobody_knows_is_found(kit: Path) -> None:
    assert "DNS" in findings(kit, host="coordinator.invalid")["name"].mend


def test_records_that_are_not_there_are_found(kit: Path) -> None:
    assert not findings(kit, kit / "absent")["records"].well


def test_a_ledger_folder_is_really_written(kit: Path) -> None:
    assert "4 kB are on the disk" in findings(kit)["ledger's folder"].found
    assert not list((kit / "consilium").glob("doctor-*"))


def test_a_ledger_folder_that_is_gone_or_full_is_found(
    kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    found = findings(kit)["ledger's folder"]

    assert (found.well, found.found) == (False, "No space left on device")
    assert "free some of the disk" in found.mend


def test_a_site_without_a_gpu_is_well(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)

    assert findings(kit)["GPU"] == Finding(
        check="GPU", well=True, found="none: computes on the CPU"
    )


def test_a_gpu_is_named_with_its_memory(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _k: "Made Up 5000")
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _k: (3 << 30, 16 << 30))

    assert findings(kit)["GPU"].found == "Made Up 5000, 3.0 of 16.0 GiB free"
