# SPDX-License-Identifier: Apache-2.0
"""What of ours lives as long as NVFlare's process at a party: its numbers, and its clock.

A component in `resources.json` of the kit. NVFlare builds it in job processes too; there it
hears no start and does nothing. A site asks the coordinator's clock once it is registered.
"""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Final, final

import msgspec
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_context import FLContext
from nvflare.apis.server_engine_spec import ServerEngineSpec
from nvflare.fuel.f3.cellnet.cell import Cell
from nvflare.fuel.f3.cellnet.defs import ReturnCode
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.cellnet.utils import make_reply
from nvflare.fuel.f3.message import Message

from consilium.adapters.health import FILE
from consilium.adapters.metrics import Party, serve_metrics
from consilium.adapters.nvflare.certificates import MOST_SKEW
from consilium.adapters.nvflare.kits import COORDINATOR
from consilium.adapters.nvflare.lock import keep_lock_here

_CHANNEL: Final = "consilium"
_CLOCK: Final = "clock"
_NOTE: Final = "clock.json"  # in the kit: the skew that was measured last
_PATIENCE: Final = 10.0  # seconds
logger: Final = logging.getLogger("consilium.adapters.nvflare")


@final
class Keeper(FLComponent):
    """Serves a party's numbers at `host`:`port`, unless `port` is 0."""

    def __init__(self, kit: str, role: str, sites: list[str], host: str, port: int) -> None:
        super().__init__()
        self._kit = Path(kit)
        self._role, self._sites = role, frozenset(sites)
        self._address = (host, port)
        self._skew: float | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Starts with the party's process."""
        if event_type == EventType.SYSTEM_BOOTSTRAP:
            keep_lock_here()  # before anything is started
        if event_type != EventType.SYSTEM_START:
            return
        engine = fl_ctx.get_engine()
        party = Party(health=self._kit / "consilium" / FILE, clock_skew=lambda: self._skew)
        if self._role == COORDINATOR:
            engine.get_cell().register_request_cb(channel=_CHANNEL, topic=_CLOCK, cb=_tell_time)
            party = replace(party, sites_alive=lambda: self._alive(engine), sites=len(self._sites))
        else:
            self._skew = measure_skew(engine.get_cell())
            note_skew(self._kit, self._skew)
        host, port = self._address
        if port:
            serve_metrics(party, host, port)
            logger.info("metrics are served", extra={"port": port})

    def _alive(self, engine: ServerEngineSpec) -> int:
        return len({one.name for one in engine.get_clients()} & self._sites)


# -- The clock ------------------------------------------------------------------------


def _tell_time(_request: Message) -> Message:
    return make_reply(ReturnCode.OK, body=time.time())


def measure_skew(cell: Cell) -> float | None:
    """Returns how far this clock is ahead of the coordinator's, in seconds, and logs a bad one.

    Half the way there and back is taken for the way there. A coordinator that does not answer
    in time leaves the skew unknown.
    """
    began = time.time()
    reply = cell.send_request(
        channel=_CHANNEL,
        topic=_CLOCK,
        target=FQCN.ROOT_SERVER,
        request=Message(),
        timeout=_PATIENCE,
        optional=True,
    )
    there = None if reply is None else reply.payload
    if not isinstance(there, float):
        return None
    skew = (began + time.time()) / 2 - there
    if abs(skew) > MOST_SKEW:
        logger.warning(
            "this clock is %.0f seconds off the coordinator's; expected at most %.0f: "
            "timedatectl set-ntp true, here or there",
            skew,
            MOST_SKEW,
        )
    return skew


def note_skew(kit: Path, skew: float | None) -> None:
    """Keeps what was measured for the doctor, who has no such connection."""
    path = kit / "consilium" / _NOTE
    if skew is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(msgspec.json.encode(skew))


def last_skew(kit: Path) -> float | None:
    """Returns what was measured when the site of `kit` joined last, None where nothing was."""
    try:
        return msgspec.json.decode((kit / "consilium" / _NOTE).read_bytes(), type=float)
    except (OSError, msgspec.MsgspecError):
        return None
