# SPDX-License-Identifier: Apache-2.0
"""One party of a computation by SPU, as a process of an interpreter that has `spu` and no torch.

usage: PYTHON -I spu_process.py owner|patient|node DESCRIPTOR

It imports numpy, jax, spu and the standard library, and nothing of consilium. Questions and
answers go over the inherited socket DESCRIPTOR: a JSON head, then as many byte strings as it says.

    owner    layers, weights -> a share of each weight for every node; a program for n images
    patient  images -> a share for each node; shares of the answer -> logits
    node     its shares, a program -> its share of the answer, CPU seconds, bytes sent

Guarantees: a node is told its own shares only. Nodes speak to each other over TLS, both ends
showing a certificate of the authority in their folders. SPU's link checks the chain and no name:
whoever has a certificate of that authority can be any node, so it must certify nodes alone.
"""

import json
import os
import re
import resource
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

NODES: Final = {"ABY3": 3, "CHEETAH": 2}
FRACTION_BITS: Final = 18
_LOWEST: Final = -3e4  # below any value before a maximum that 18 of 64 bits leave room for
_RECEIVE_MS: Final = 600_000  # a node waits so long for another
_SENT: Final = re.compile(r"send bytes (\d+)")

# -- Messages ---------------------------------------------------------------------------


class Message(NamedTuple):
    """A head, and byte strings that it describes."""

    head: dict[str, Any]
    parts: list[bytes]


def say(link: Connection, head: Mapping[str, object], parts: Iterable[bytes] = ()) -> None:
    """Sends a message."""
    listed = list(parts)
    link.send_bytes(json.dumps({**head, "parts": len(listed)}).encode())
    for part in listed:
        link.send_bytes(part)


def hear(link: Connection) -> Message:
    """Returns the next message.

    Raises:
        EOFError: The other end is gone.
    """
    head = json.loads(link.recv_bytes())
    return Message(head, [link.recv_bytes() for _ in range(head["parts"])])


def pack_arrays(arrays: Iterable[NDArray[Any]]) -> tuple[list[list[int]], list[bytes]]:
    """Returns shapes and float32 bytes."""
    listed = [np.ascontiguousarray(one, np.float32) for one in arrays]
    return [list(one.shape) for one in listed], [one.tobytes() for one in listed]


def unpack_arrays(shapes: list[list[int]], parts: list[bytes]) -> list[NDArray[np.float32]]:
    """Returns what was packed."""
    return [
        np.frombuffer(part, np.float32).reshape(shape)
        for shape, part in zip(shapes, parts, strict=True)
    ]


# -- SPU --------------------------------------------------------------------------------


def settings(protocol: str) -> Any:  # noqa: ANN401 - spu is not typed
    """Returns SPU's settings: 64 bits, of which 18 behind the point."""
    libspu = import_module("spu.libspu")
    made = libspu.RuntimeConfig(
        protocol=getattr(libspu.ProtocolKind, protocol), field=libspu.FieldType.FM64
    )
    made.fxp_fraction_bits = FRACTION_BITS
    made.enable_pphlo_profile = True  # it tells the bytes that were sent
    return made


def pack_share(share: Any) -> list[bytes]:  # noqa: ANN401
    """Returns the bytes of one of SPU's shares."""
    return [share.meta, *share.share_chunks]


def unpack_share(parts: list[bytes]) -> Any:  # noqa: ANN401
    """Returns SPU's share."""
    made = import_module("spu.libspu").Share()
    made.meta, made.share_chunks = parts[0], parts[1:]
    return made


def forward(layers: list[dict[str, Any]], images: Any, weights: tuple[Any, ...]) -> Any:  # noqa: ANN401
    """Returns logits of images (n, h, w, c): the layers of `consilium.inference.network`."""
    values = [images]
    for layer in layers:
        read = [values[k] for k in layer["reads"]]
        values.append(_LAYERS[layer["kind"]](layer, read, weights))
    return values[-1].reshape(images.shape[0], -1)


def compile_program(
    layers: list[dict[str, Any]], image: list[int], weights: list[NDArray[np.float32]]
) -> bytes:
    """Returns the program for images of shape (n, h, w, c); it holds no weights."""
    libspu, frontend = import_module("spu.libspu"), import_module("spu.utils.frontend")
    secret = [libspu.Visibility.VIS_SECRET] * (1 + len(weights))
    program, _ = frontend.compile(
        frontend.Kind.JAX,
        lambda x, *w: forward(layers, x, w),
        (np.zeros(image, np.float32), *(np.zeros_like(one) for one in weights)),
        {},
        [f"in{k}" for k in range(len(secret))],
        secret,
        lambda out: [f"out{k}" for k in range(len(out))],
        copts=libspu.CompilerOptions(),
    )
    return bytes(program.SerializeToString())


def _linear(layer: dict[str, Any], read: list[Any], weights: tuple[Any, ...]) -> Any:  # noqa: ANN401
    jnp, lax = import_module("jax.numpy"), import_module("jax.lax")
    weight, bias = weights[layer["weight"]], weights[layer["weight"] + 1]
    if layer["flat"]:
        flat = jnp.transpose(read[0], (0, 3, 1, 2)).reshape(read[0].shape[0], -1)
        return (flat @ weight + bias)[:, None, None, :]
    stride, edge = (layer["stride"],) * 2, (layer["padding"],) * 2
    form = ("NHWC", "HWIO", "NHWC")
    made = lax.conv_general_dilated(read[0], weight, stride, [edge, edge], dimension_numbers=form)
    return made + bias[None, None, None, :]


def _maximum(layer: dict[str, Any], read: list[Any], _: tuple[Any, ...]) -> Any:  # noqa: ANN401
    jnp, lax = import_module("jax.numpy"), import_module("jax.lax")
    edge = (layer["before"], layer["after"])
    padded = jnp.pad(read[0], ((0, 0), edge, edge, (0, 0)))
    window, stride = (1, *[layer["size"]] * 2, 1), (1, *[layer["stride"]] * 2, 1)
    return lax.reduce_window(padded, _LOWEST, lax.max, window, stride, "VALID")


def _average(layer: dict[str, Any], read: list[Any], _: tuple[Any, ...]) -> Any:  # noqa: ANN401
    jnp, x = import_module("jax.numpy"), read[0]
    down = [jnp.mean(x[:, k : k + layer["height"]], axis=1) for k in layer["rows"]]
    tall = jnp.stack(down, axis=1)
    across = [jnp.mean(tall[:, :, k : k + layer["width"]], axis=2) for k in layer["columns"]]
    return jnp.stack(across, axis=2)


_LAYERS: Final[Mapping[str, Callable[[dict[str, Any], list[Any], tuple[Any, ...]], Any]]] = {
    "linear": _linear,
    "maximum": _maximum,
    "average": _average,
    "relu": lambda _, read, __: import_module("jax.numpy").maximum(read[0], 0.0),
    "scale": lambda layer, read, _: read[0] * layer["factor"],
    "join": lambda _, read, __: import_module("jax.numpy").concatenate(read, axis=-1),
    "sum": lambda _, read, __: read[0] + read[1],
}

# -- Parties ----------------------------------------------------------------------------


def owner(link: Connection) -> None:
    """Shares weights once; then writes a program for each batch size that is asked."""
    told = hear(link)
    weights = unpack_arrays(told.head["shapes"], told.parts)
    for shares in _shared(told.head["protocol"], weights):
        say(link, {"sizes": [len(one) for one in shares]}, [p for one in shares for p in one])
    while True:
        image = hear(link).head["image"]
        say(link, {}, [compile_program(told.head["layers"], image, weights)])


def patient(link: Connection) -> None:
    """Shares images, opens answers."""
    spu, protocol = import_module("spu"), hear(link).head["protocol"]
    io = spu.Io(NODES[protocol], settings(protocol))
    while True:
        told = hear(link)
        for (share,) in _shared(protocol, unpack_arrays(told.head["shapes"], told.parts)):
            say(link, {}, share)
        shares = [unpack_share(hear(link).parts) for _ in range(NODES[protocol])]
        logits = np.asarray(io.reconstruct(shares))
        shapes, parts = pack_arrays([logits])
        say(link, {"shapes": shapes}, parts)


def node(link: Connection) -> None:
    """Computes on its shares until nobody asks any more."""
    told, spu, libspu = hear(link), import_module("spu"), import_module("spu.libspu")
    kit = Path(told.head["kit"])
    log = _quiet(libspu, kit / "spu.log")
    protocol = told.head["protocol"]
    peers = libspu.link.create_brpc(describe(told.head["addresses"], kit), told.head["rank"])
    runtime = spu.Runtime(peers, settings(protocol))
    at = 0
    for number, size in enumerate(told.head["sizes"], start=1):
        runtime.set_var(f"in{number}", unpack_share(told.parts[at : at + size]))
        at += size
    say(link, {"linked": True})
    while True:
        asked = hear(link)
        program = libspu.Executable()
        program.ParseFromString(asked.parts[0])
        runtime.set_var("in0", unpack_share(asked.parts[1:]))
        before = _cpu_seconds()
        runtime.run(program)
        head = {"cpu_seconds": _cpu_seconds() - before, "sent_bytes": sent_bytes(log.read_text())}
        say(link, head, pack_share(runtime.get_var(program.output_names[0])))


def describe(addresses: list[str], kit: Path) -> Any:  # noqa: ANN401
    """Returns SPU's description of a link with TLS at both ends."""
    made = import_module("spu.libspu").link.Desc()
    made.recv_timeout_ms = _RECEIVE_MS
    for rank, address in enumerate(addresses):
        made.add_party(f"node-{rank}", address)
    made.enable_ssl = True
    for end in (made.client_ssl_opts, made.server_ssl_opts):
        end.cert.certificate_path = str(kit / "certificate.pem")
        end.cert.private_key_path = str(kit / "key.pem")
        end.verify.ca_file_path = str(kit / "authority.pem")
        end.verify.verify_depth = 1  # 0 would turn verification off
    return made


def sent_bytes(log: str) -> int | None:
    """Returns the bytes that SPU says it sent in its last run."""
    found = _SENT.findall(log)
    return int(found[-1]) if found else None


def _shared(protocol: str, arrays: list[NDArray[np.float32]]) -> Iterable[list[list[bytes]]]:
    """Returns for each node the bytes of its share of every array."""
    spu, libspu = import_module("spu"), import_module("spu.libspu")
    io = spu.Io(NODES[protocol], settings(protocol))
    made = [io.make_shares(one, libspu.Visibility.VIS_SECRET) for one in arrays]
    return [[pack_share(one[rank]) for one in made] for rank in range(NODES[protocol])]


def _quiet(libspu: Any, place: Path) -> Path:  # noqa: ANN401
    options = libspu.logging.LogOptions()
    options.enable_console_logger, options.system_log_path = False, str(place)
    libspu.logging.setup_logging(options)
    return place


def _cpu_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


def main() -> None:
    """Plays one party until the other end of its socket closes."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    role, descriptor = sys.argv[1:]
    link = Connection(int(descriptor))
    try:
        {"owner": owner, "patient": patient, "node": node}[role](link)
    except EOFError:
        os._exit(0)  # SPU's threads would wait for peers that are gone
    except (RuntimeError, ImportError, ValueError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {str(error)[:500]}\n")
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
