# SPDX-License-Identifier: Apache-2.0
"""The phone page's files and their server: headers, refusals, and nothing but the page."""

import gzip
import http.client
import json
import re
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.phone.asked import made_up
from tests.phone.made import exported, finished

from consilium.adapters.inference.kit import Address, Operators
from consilium.cli.phone_page import Wanted
from consilium.cli.phone_page import build as build_page
from consilium.errors import AccessDenied, ConfigError
from consilium.web.phone import pages, policies
from consilium.web.phone.encrypted_site import make_encrypted_site
from consilium.web.phone.pages import PhoneSite, draw_icon, write_site
from consilium.web.phone.serving import make_server
from consilium.web.phone.site import make_site

SOURCES = Path(__file__).parents[2] / "web-build/phone/source"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("model"), finished("logistic", shape=(1, 28, 28)))


@pytest.fixture
def page(model: Path, monkeypatch: pytest.MonkeyPatch) -> PhoneSite:
    """The page's files, with stand-ins for what npm makes."""
    monkeypatch.setattr(pages, "_built", lambda name: f"made {name}".encode())
    return make_site(model)


@pytest.fixture
def server(page: PhoneSite) -> Iterator[ThreadingHTTPServer]:
    with make_server(page, ("127.0.0.1", 0)) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(
    server: ThreadingHTTPServer, path: str, method: str = "GET", body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request(method, path, body, {"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def constants(page: PhoneSite) -> dict[str, object]:
    lines = page.files["sw.js"].decode().splitlines()
    found = [re.fullmatch(r"const (\w+) = (.*);", line) for line in lines]
    return {one[1]: json.loads(one[2]) for one in found if one and one[2][0] in '{["0123456789'}


def test_service_worker_knows_every_other_file(page: PhoneSite) -> None:
    listed = constants(page)["FILES"]

    assert isinstance(listed, dict)
    assert set(listed) == set(page.files) - {"sw.js"}
    assert all(one["integrity"].startswith("sha256-") for one in listed.values())


def test_other_files_are_another_version(
    page: PhoneSite, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "draw_icon", lambda side: b"%d" % side)
    other = make_site(model)

    assert constants(page)["VERSION"] != constants(other)["VERSION"]


def test_same_model_is_the_same_page(page: PhoneSite, model: Path) -> None:
    assert make_site(model) == page


def test_folder_holds_every_file_twice(page: PhoneSite, tmp_path: Path) -> None:
    write_site(page, tmp_path / "out")

    for name, data in page.files.items():
        assert (tmp_path / "out" / name).read_bytes() == data
        assert gzip.decompress((tmp_path / "out" / f"{name}.gz").read_bytes()) == data


def test_a_full_folder_is_refused(page: PhoneSite, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()

    with pytest.raises(ConfigError, match="is not empty"):
        write_site(page, tmp_path)


def test_a_model_without_a_promise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="carries no privacy guarantee"):
        exported(tmp_path, finished("logistic", shape=(1, 28, 28), arm="federated"))


def test_scripts_that_were_not_made_are_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "files", lambda _package: tmp_path)

    with pytest.raises(ConfigError, match=r"run `make phone` \(needs npm\)"):
        make_site(model)


def test_icon_is_a_picture() -> None:
    assert draw_icon(192).startswith(b"\x89PNG")


# -- Policies -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["index.html", "worker.js", "sw.js", "model.onnx"])
def test_no_policy_lets_text_run(name: str) -> None:
    policy = policies.headers(name)["Content-Security-Policy"]

    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy
    assert " 'unsafe-eval'" not in policy
    assert "http" not in policy


def test_only_the_service_worker_reaches_its_origin() -> None:
    reaching = [
        name
        for name in ("index.html", "worker.js", "app.js", "sw.js")
        if "connect-src 'none'" not in policies.headers(name)["Content-Security-Policy"]
    ]

    assert reaching == ["sw.js"]


def test_a_worker_that_asks_reaches_two_operators_and_nothing_else() -> None:
    both = ("https://a.example:7443", "https://b.example:7443")

    worker = policies.headers("worker.js", both)["Content-Security-Policy"]

    assert "connect-src https://a.example:7443 https://b.example:7443;" in worker
    assert "wasm" not in worker
    for name in ("index.html", "app.js", "sw.js"):
        assert policies.headers(name, both) == policies.headers(name)
    assert policies.for_service_worker(both)["worker.js"] == policies.headers("worker.js", both)


@pytest.mark.parametrize("page", ["index.html", "encrypted.html"])
def test_page_says_its_own_policy(page: str) -> None:
    said = re.search(r'Policy" content="([^"]+)"', (SOURCES / page).read_text())
    sent = policies.headers("index.html")["Content-Security-Policy"]

    assert said is not None
    assert sent == f"{said[1]}; frame-ancestors 'none'"  # which a page cannot say itself


@pytest.mark.parametrize("page", ["index.html", "encrypted.html"])
def test_page_holds_no_script_or_style_of_its_own(page: str) -> None:
    text = (SOURCES / page).read_text()

    assert re.findall(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", text) == []


@pytest.mark.parametrize("mode", ["", "encrypted."])
def test_both_languages_say_the_same_things(mode: str) -> None:
    english, german = (
        json.loads((SOURCES / f"words/{mode}{name}.json").read_text()) for name in ("en", "de")
    )

    assert set(english) == set(german)
    for key, words in english.items():
        if isinstance(words, str):
            assert set(re.findall(r"\{\w+\}", german[key])) == set(re.findall(r"\{\w+\}", words))
        elif isinstance(words, list):
            assert len(german[key]) == len(words)


# -- The encrypted mode ---------------------------------------------------------------


def two_operators(host: str = "a.example") -> Operators:
    return Operators((Address(host, 7100, 7443), Address("b.example", 7100, 7443)))


@pytest.mark.usefixtures("page")
def test_the_page_that_asks_holds_no_model() -> None:
    made = make_encrypted_site(two_operators(), made_up())

    known = json.loads(made.files["publication.json"])
    assert made.operators == ("https://a.example:7443", "https://b.example:7443")
    assert known["operators"] == list(made.operators)
    assert known["image"] == [28, 28, 1]
    assert not {"model.onnx", "ort.wasm", "card.json"} & set(made.files)
    assert constants(made)["OPERATORS"] == list(made.operators)


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize("host", ["a.example; script-src *", "a b", "*", "-a", ""])
def test_a_host_that_would_change_the_policy_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="expected a host of letters"):
        make_encrypted_site(two_operators(host), made_up())


@pytest.mark.usefixtures("page")
def test_a_program_of_other_pictures_is_refused() -> None:
    other = msgspec.structs.replace(made_up(), program=made_up((1, 20, 20)).program)

    with pytest.raises(ConfigError, match=r"computes on \(20, 20, 1\); its card says"):
        make_encrypted_site(two_operators(), other)


def test_a_page_is_of_one_mode(tmp_path: Path) -> None:
    for model, operators in ((None, None), (tmp_path, tmp_path)):
        with pytest.raises(ConfigError, match=r"MODEL\.onnx, or --operators"):
            build_page(Wanted(model=model, operators=operators, name=None), tmp_path, as_json=True)
    with pytest.raises(ConfigError, match="--model names what operators offer"):
        build_page(Wanted(model=tmp_path, operators=None, name="x"), tmp_path, as_json=True)


# -- Server ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "index.html", "model.onnx", "worker.js", "?x=1"])
def test_files_come_with_their_headers(
    server: ThreadingHTTPServer, page: PhoneSite, name: str
) -> None:
    status, headers, body = ask(server, f"/{name}")
    file = name.partition("?")[0] or "index.html"

    assert status == 200
    assert gzip.decompress(body) == page.files[file]
    assert headers.items() >= policies.headers(file).items()


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/assets/", "/%2e%2e/", "/a.onnx"])
def test_nothing_else_is_there(server: ThreadingHTTPServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_takes_nothing(server: ThreadingHTTPServer, method: str) -> None:
    assert ask(server, "/index.html", method, b"pixels")[0] == 405


def test_head_has_no_body(server: ThreadingHTTPServer) -> None:
    status, headers, body = ask(server, "/index.html", "HEAD")

    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0


def test_beyond_this_machine_needs_a_certificate(page: PhoneSite) -> None:
    with pytest.raises(ConfigError, match=r"beyond this machine; expected --certificate"):
        make_server(page, ("0.0.0.0", 0))  # noqa: S104 - it is refused


def test_a_bad_certificate_is_refused(page: PhoneSite, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nothing")

    with pytest.raises(ConfigError, match=r"certificate bad\.pem cannot be used"):
        make_server(page, ("127.0.0.1", 0), certificate=tmp_path / "bad.pem")


def test_it_speaks_tls(page: PhoneSite, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with make_server(page, ("127.0.0.1", 0), certificate=certificate, key=key) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        trusting = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection(
            "localhost", server.server_address[1], timeout=10, context=trusting
        )
        connection.request("GET", "/app.css")
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        server.shutdown()
        thread.join()

    assert found == (200, page.files["app.css"])


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "chain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return folder / "chain.pem", folder / "key.pem"
