# SPDX-License-Identifier: Apache-2.0
"""SPU as a runtime: owner, patient and nodes as processes of another interpreter, on this machine.

Who is trusted: with ABY3 three nodes, any one of which may look (semi-honest, honest majority of
three); with Cheetah two nodes, either of which may look. Neither has a dealer, and a node that
deviates can spoil an answer. Randomness, shares and arithmetic are SPU's; weights and image are
shared by processes of their own, and a node is handed its own shares only.

SPU pins versions of jax and numpy that torch's do not fit, so it lives in an environment of its
own and `python` names its interpreter. The nodes speak over TLS with certificates of an authority
that is made for this run and forgotten, on loopback only: whoever starts this sees all processes,
so it compares and checks, and keeps nothing from its starter. Nodes at three organisations are not
built: SPU's link proves that a peer belongs to the authority, and not which peer it is.

Source: SPU 0.9.5; Mohassel and Rindal 2018 (ABY3); Huang et al. 2022 (Cheetah).
"""

import multiprocessing
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from consilium.adapters.inference import spu_process
from consilium.adapters.inference.kit import PARTIES, Address, Operators, make_kits
from consilium.adapters.inference.spu_process import Message, hear, say
from consilium.adapters.machine import free_ports
from consilium.errors import ConfigError, DataError, RoundAborted
from consilium.inference.network import Average, Linear, Maximum, Network, Scale, reads
from consilium.inference.runtime import Answered, Spent

SpuProtocol: TypeAlias = Literal["ABY3", "CHEETAH"]
Described: TypeAlias = tuple[list[dict[str, object]], list[NDArray[np.float32]]]
PATIENCE: Final = 600.0  # seconds for any one answer of a process
_TRUST: Final[dict[SpuProtocol, str]] = {
    "ABY3": "three nodes, one of which may look (semi-honest); no dealer",
    "CHEETAH": "two nodes, either of which may look (semi-honest); no dealer",
}


@final
class SpuRuntime:
    """SPU on one network; a context manager, whose processes end with it.

    Args:
        python: An interpreter that has spu.
        network: The owner's model.
        protocol: ABY3 or CHEETAH.
        patience: Seconds for any one answer of a process.

    Raises:
        ConfigError: The interpreter has no spu.
        RoundAborted: A process stopped while the weights were shared.
    """

    def __init__(
        self,
        python: Path,
        network: Network,
        protocol: SpuProtocol = "ABY3",
        *,
        patience: float = PATIENCE,
    ) -> None:
        check_interpreter(python)
        self.name = f"SPU {protocol}"
        self.trust = _TRUST[protocol]
        self._image = network.image
        self._patience = patience
        self.addresses = [f"127.0.0.1:{port}" for port in free_ports(spu_process.NODES[protocol])]
        self._programs: dict[int, bytes] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="consilium-spu-")
        self._parties: list[_Party] = []
        try:
            self._start(python, describe(network), protocol)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all processes."""
        for party in self._parties:
            party.kill()
        self._parties = []
        self._folder.cleanup()

    def infer(self, images: NDArray[np.float32]) -> Answered:
        """Returns the answer for images (n, channels, height, width), n at a time.

        Raises:
            DataError: Images of another shape.
            RoundAborted: A process stopped or was silent for too long; all are ended.
        """
        if images.ndim != 4 or images.shape[1:] != self._image or not len(images):
            raise DataError(
                f"images of shape {images.shape}; expected (n, *{self._image}): prepare them as "
                "the model's description says"
            )
        if not self._parties:
            raise RoundAborted("SPU's processes have ended; start another runtime")
        try:
            return self._infer(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
        except RoundAborted:
            self.close()
            raise

    # -- Parts --------------------------------------------------------------------------

    def _start(self, python: Path, described: Described, protocol: SpuProtocol) -> None:
        layers, weights = described
        folder = Path(self._folder.name) / "kits"
        _make_links(folder)
        log = Path(self._folder.name)
        names = ("owner", "patient", *(f"node {k}" for k in range(len(self.addresses))))
        for name in names:
            self._parties.append(_Party(python, name, log / f"{name}.txt"))
        shapes, parts = spu_process.pack_arrays(weights)
        self._owner.say({"protocol": protocol, "layers": layers, "shapes": shapes}, parts)
        self._patient.say({"protocol": protocol})
        for rank, node in enumerate(self._nodes):
            (share,) = self._hear([self._owner])
            place = {"rank": rank, "addresses": self.addresses, "kit": str(folder / PARTIES[rank])}
            sizes = share.head["sizes"]
            node.say({"protocol": protocol, "sizes": sizes, **place}, share.parts)
        self._hear(self._nodes)

    def _infer(self, maps: NDArray[np.float32]) -> Answered:
        program = self._program(maps.shape)
        start = time.perf_counter()
        shapes, parts = spu_process.pack_arrays([maps])
        self._patient.say({"shapes": shapes}, parts)
        for node in self._nodes:
            (share,) = self._hear([self._patient])
            node.say({}, [program, *share.parts])
        answers = self._hear(self._nodes)
        for answer in answers:
            self._patient.say({}, answer.parts)
        (opened,) = self._hear([self._patient])
        (logits,) = spu_process.unpack_arrays(opened.head["shapes"], opened.parts)
        seconds = time.perf_counter() - start
        spent = [
            Spent(node.name, answer.head["cpu_seconds"], answer.head["sent_bytes"])
            for node, answer in zip(self._nodes, answers, strict=True)
        ]
        return Answered(logits=logits.astype(np.float64), seconds=seconds, spent=tuple(spent))

    def _program(self, shape: tuple[int, ...]) -> bytes:
        if shape[0] not in self._programs:
            self._owner.say({"image": list(shape)})
            (told,) = self._hear([self._owner])
            (self._programs[shape[0]],) = told.parts
        return self._programs[shape[0]]

    def _hear(self, asked: Sequence["_Party"]) -> list[Message]:
        """Returns one message of each; any process that ends meanwhile ends the wait."""
        end = time.monotonic() + self._patience
        heard: dict[Connection, Message] = {}
        awaited = {one.link: one for one in asked}
        names = {one.link: one for one in self._parties}
        while not awaited.keys() <= heard.keys():
            left = end - time.monotonic()
            ready = wait([link for link in names if link not in heard], max(left, 0))
            if not ready:
                silent = ", ".join(one.name for link, one in awaited.items() if link not in heard)
                raise RoundAborted(f"SPU: {silent} gave no answer in {self._patience:.0f} s")
            for link in ready:
                heard[_connection(link)] = names[_connection(link)].hear()
        return [heard[one.link] for one in asked]

    @property
    def _owner(self) -> "_Party":
        return self._parties[0]

    @property
    def _patient(self) -> "_Party":
        return self._parties[1]

    @property
    def _nodes(self) -> list["_Party"]:
        return self._parties[2:]


@final
class _Party:
    """One process and the socket to it."""

    def __init__(self, python: Path, name: str, log: Path) -> None:
        self.name, self._log = name, log
        self.link, theirs = multiprocessing.Pipe()
        role, descriptor = name.split(maxsplit=1)[0], str(theirs.fileno())
        command = [str(python), "-I", spu_process.__file__, role, descriptor]
        with log.open("w") as errors, theirs:
            self.process = subprocess.Popen(  # noqa: S603 - the interpreter that the user named
                command, pass_fds=[theirs.fileno()], stdout=errors, stderr=errors
            )

    def say(self, head: dict[str, object], parts: Sequence[bytes] = ()) -> None:
        try:
            say(self.link, head, parts)
        except OSError:
            raise self._stopped() from None

    def hear(self) -> Message:
        try:
            return hear(self.link)
        except (EOFError, OSError):
            raise self._stopped() from None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.link.close()

    def _stopped(self) -> RoundAborted:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        words = self._log.read_text(errors="replace").strip().splitlines()
        said = words[-1] if words else "it said nothing"
        return RoundAborted(
            f"SPU: {self.name} stopped ({said}); nothing was opened: start another runtime"
        )


def describe(network: Network) -> Described:
    """Returns layers for SPU's processes, as JSON has them, and the weights these name."""
    weights: list[NDArray[np.float32]] = []
    found: list[dict[str, object]] = []
    for layer in network.layers:
        one: dict[str, object] = {"kind": type(layer).__name__.lower(), "reads": reads(layer)}
        match layer:
            case Linear():
                one |= {"weight": len(weights), "flat": layer.flat}
                one |= {"stride": layer.stride, "padding": layer.padding}
                weight = layer.weight.float().numpy()
                flat = weight.reshape(len(weight), -1).T
                weights += [flat if layer.flat else weight.transpose(2, 3, 1, 0)]
                weights += [layer.bias.float().numpy()]
            case Maximum():
                one |= {"size": layer.size, "stride": layer.stride}
                one |= {"before": layer.before, "after": layer.after}
            case Average():
                one |= {"rows": layer.rows, "columns": layer.columns}
                one |= {"height": layer.height, "width": layer.width}
            case Scale():
                one["factor"] = layer.factor
            case _:
                pass
        found.append(one)
    return found, weights


def check_interpreter(python: Path) -> None:
    """Raises unless `python` is an interpreter that has spu.

    Raises:
        ConfigError: It is none, or has no spu.
    """
    hint = (
        "expected an interpreter with spu: python -m venv DIR, DIR/bin/pip install spu==0.9.5, "
        "and name DIR/bin/python"
    )
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter that the user named
            [str(python), "-I", "-c", "import jax, spu"],
            capture_output=True,
            check=False,
            timeout=120,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{python} does not run ({type(error).__name__}); {hint}") from None
    if done.returncode:
        raise ConfigError(f"{python} cannot import spu; {hint}")


def _make_links(folder: Path) -> None:
    """Makes certificates for the nodes and forgets the authority that signed them."""
    nowhere = Address("127.0.0.1", 0, 0)
    make_kits(folder, Operators((nowhere, nowhere)))
    (folder / "authority.key").unlink()
    shutil.rmtree(folder / "owner")


def _connection(ready: object) -> Connection:
    if not isinstance(ready, Connection):
        raise TypeError(type(ready).__name__)
    return ready
