# SPDX-License-Identifier: Apache-2.0
"""What the engine between machines costs: an echo over NVFlare beside a bare gRPC stream.

    python benchmarks/engine.py --sites 4 --repeats 15

Coordinator and sites are processes on this machine, with mutual TLS and the same certificates in
both. A leg is one message from the coordinator to all sites and all answers back. Prints the
medians, and writes benchmarks/out/engine-SITES.json.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import msgspec
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session
from recipes import commit, processor

from consilium.adapters.nvflare import kits

HERE = Path(__file__).parent
SIZES = (100, 3_000_000)
LARGEST = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def main() -> None:
    """Measures both and writes down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--play", nargs=2, metavar=("PART", "KIT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.play:
        _play(asked.play[0], Path(asked.play[1]))
        return
    names = [f"site-{k}" for k in range(asked.sites)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "bench"
        says = kits.Federation(
            name="bench", role=kits.COORDINATOR, sites=tuple(names), host="localhost",
            port=free_port(),
        )  # fmt: skip
        made = kits.provision(says, folder)
        bare = _bare(made, names, asked.repeats)
        ours = _ours(folder, names, asked.repeats)
    facts = {
        "commit": commit(),
        "machine": processor(),
        "sites": asked.sites,
        "seconds_a_leg": {size: {"nvflare": ours[size], "grpc": bare[size]} for size in SIZES},
    }
    (HERE / "out").mkdir(exist_ok=True)
    (HERE / "out" / f"engine-{asked.sites}.json").write_text(json.dumps(facts, indent=2) + "\n")
    for size in SIZES:
        print(f"{size} bytes: NVFlare {ours[size]:.4f} s, gRPC {bare[size]:.4f} s a leg")


def _start(part: str, kit: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603
        [sys.executable, str(Path(__file__)), "--play", part, str(kit)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _play(part: str, kit: Path) -> None:
    """Becomes one party."""
    if part == "bare":
        asyncio.run(_bare_site(kit))
        return
    says = kits.federation_of(kit, part)
    link = "EchoCoordinator" if says.role == kits.COORDINATOR else "EchoSite"
    kits.prepare(kit, f"echo_link.{link}", says, kits.Watching())
    kits.serve(kit, says.role)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


# -- Ours -----------------------------------------------------------------------------


def _ours(folder: Path, names: list[str], repeats: int) -> dict[int, float]:
    parties = [_start(kits.COORDINATOR, folder / "kits" / kits.COORDINATOR)]
    try:
        time.sleep(10)
        parties += [_start(name, folder / "kits" / name) for name in names]
        session = _session(folder / "kits" / kits.RESEARCHER)
        while len(session.get_connected_client_list()) < len(names):
            time.sleep(1)
        job = session.submit_job(str(_job(folder / "echo", repeats)))
        session.monitor_job(job, poll_interval=1.0)
        found = Path(session.download_job_result(job, str(folder))) / "workspace" / "echo.json"
        session.close()
        return {int(size): seconds for size, seconds in json.loads(found.read_text()).items()}
    finally:
        for party in parties:
            party.kill()
            party.wait()


def _session(kit: Path) -> Session:
    user = msgspec.json.decode((kit / "startup" / "fed_admin.json").read_bytes())["admin"]
    return new_secure_session(user["username"], str(kit), timeout=60.0)


def _job(folder: Path, repeats: int) -> Path:
    config = folder / "app" / "config"
    config.mkdir(parents=True)
    meta = {"name": "echo", "min_clients": 1, "resource_spec": {}, "deploy_map": {"app": ["@ALL"]}}
    args = {"sizes": list(SIZES), "repeats": repeats}
    flow = {"id": "echo", "path": "echo_link.EchoCoordinator", "args": args}
    executor = {"tasks": ["*"], "executor": {"path": "echo_link.EchoSite", "args": {}}}
    own = {"format_version": 2, "components": []}
    (folder / "meta.json").write_text(json.dumps(meta))
    (config / "config_fed_server.json").write_text(json.dumps({**own, "workflows": [flow]}))
    (config / "config_fed_client.json").write_text(json.dumps({**own, "executors": [executor]}))
    return folder


# -- The floor ------------------------------------------------------------------------


def _bare(made: list[Path], names: list[str], repeats: int) -> dict[int, float]:
    by_role = {kits.federation_of(kit, kit.name).role: kit for kit in made}
    sites = [_start("bare", by_role[name]) for name in names]
    try:
        return asyncio.run(_bare_coordinator(by_role[kits.COORDINATOR], len(names), repeats))
    finally:
        for site in sites:
            site.kill()
            site.wait()


async def _bare_coordinator(kit: Path, count: int, repeats: int) -> dict[int, float]:
    ends: list[tuple[asyncio.Queue[bytes | None], asyncio.Queue[bytes]]] = []

    async def stream(said: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
        to_site: asyncio.Queue[bytes | None] = asyncio.Queue()
        from_site: asyncio.Queue[bytes] = asyncio.Queue()
        ends.append((to_site, from_site))
        while (data := await to_site.get()) is not None:
            yield data
            from_site.put_nowait(await anext(aiter(said)))

    handler = grpc.stream_stream_rpc_method_handler(stream)
    server = grpc.aio.server(options=LARGEST)
    generic = grpc.method_handlers_generic_handler("echo", {"stream": handler})
    server.add_generic_rpc_handlers((generic,))
    key, own, authority = _certificates(kit, "server")
    credentials = grpc.ssl_server_credentials([(key, own)], authority, require_client_auth=True)
    server.add_secure_port(f"localhost:{kits.federation_of(kit, kit.name).port}", credentials)
    await server.start()
    while len(ends) < count:
        await asyncio.sleep(0.1)
    seconds = {size: await _legs(ends, os.urandom(size), repeats) for size in SIZES}
    for to_site, _ in ends:
        to_site.put_nowait(None)
    await server.stop(5)
    return seconds


async def _legs(
    ends: list[tuple[asyncio.Queue[bytes | None], asyncio.Queue[bytes]]], data: bytes, repeats: int
) -> float:
    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        for to_site, _ in ends:
            to_site.put_nowait(data)
        said = await asyncio.gather(*(from_site.get() for _, from_site in ends))
        taken.append(time.perf_counter() - began)
        assert all(one == data for one in said)
    return statistics.median(taken[1:])


async def _bare_site(kit: Path) -> None:
    says = kits.federation_of(kit)
    key, own, authority = _certificates(kit, "client")
    credentials = grpc.ssl_channel_credentials(authority, key, own)
    async with grpc.aio.secure_channel(
        f"{says.host}:{says.port}", credentials, options=LARGEST
    ) as channel:
        await channel.channel_ready()
        call = channel.stream_stream("/echo/stream")()
        while (data := await call.read()) is not grpc.aio.EOF:
            await call.write(data)


def _certificates(kit: Path, side: str) -> tuple[bytes, bytes, bytes]:
    startup = kit / "startup"
    names = (f"{side}.key", f"{side}.crt", "rootCA.pem")
    key, own, authority = ((startup / name).read_bytes() for name in names)
    return key, own, authority


if __name__ == "__main__":
    main()
