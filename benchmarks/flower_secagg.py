# SPDX-License-Identifier: Apache-2.0
"""Flower's SecAgg+, its own functions unmodified, behind a grid in memory.

Needs the `bench` extra. Client functions of `secaggplus_mod` and server stages of
`SecAggPlusWorkflow` run as they are; only transport and logging are replaced. Imported by
benchmarks/secagg.py where flwr is installed.
"""

import importlib
import logging
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLIENT = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
SERVER = importlib.import_module("flwr.server.workflow.secure_aggregation.secaggplus_workflow")
CONFIG = importlib.import_module("flwr.common.secure_aggregation.secaggplus_constants")
COMMON = importlib.import_module("flwr.common")
RECORDS = importlib.import_module("flwr.compat.common").recorddict_compat
RecordDict = importlib.import_module("flwr.app").RecordDict
ConfigRecord = importlib.import_module("flwr.app").ConfigRecord
CONSTANTS = importlib.import_module("flwr.server.workflow.constant")

Key, Stage = CONFIG.Key, CONFIG.Stage
EXAMPLES, CLIPPING, TARGET, MODULUS = 500, 8.0, 1 << 22, 1 << 32
clock = time.process_time


def _quiet(*_: object, **__: object) -> None:
    """Says nothing in place of Flower's log."""


def _message(
    content: object, dst_node_id: int, message_type: str, group_id: str
) -> SimpleNamespace:
    del message_type, group_id
    return SimpleNamespace(content=content, metadata=SimpleNamespace(dst_node_id=dst_node_id))


logging.getLogger("flwr").setLevel(logging.CRITICAL)
CLIENT.log = SERVER.log = _quiet
SERVER.Message = _message


class Round:
    """One round among `sites` clients; `layers` are the arrays of the first one's model."""

    def __init__(self, sites: int, layers: Sequence[NDArray[np.float32]]) -> None:
        self.sites, self.threshold = sites, max(2, round(2 / 3 * sites))
        self.parameters = COMMON.ndarrays_to_parameters(list(layers))
        self.states: dict[int, Any] = {}
        self.keys: dict[int, tuple[bytes, bytes]] = {}
        self.times: dict[str, float] = {}
        self.in_grid = 0.0

    def play(self) -> dict[str, float]:
        """Returns CPU seconds of a site and of the server, and the bytes of an upload."""
        setup = self._timed("setup", self._setup) / self.sites
        sent: dict[int, list[bytes]] = {}
        sources: dict[int, list[int]] = {}
        start = clock()
        for number in self.states:
            sent[number], sources[number] = [], []
        for number in self.states:
            self._share(number, sent, sources)
        shared = (clock() - start) / self.sites
        box = {Key.CIPHERTEXT_LIST: sent[1], Key.SOURCE_LIST: sources[1]}
        start = clock()
        answer = CLIENT._collect_masked_vectors(self.states[1], box, EXAMPLES, self.parameters)
        collected = clock() - start
        self.masked = answer[Key.MASKED_PARAMETERS]
        self._hand_out_shares(sent, sources)
        server = self._serve()
        return {
            "site": setup + shared + collected + self.times["unmask"],
            "server": server,
            "upload_bytes": float(sum(map(len, self.masked))),
        }

    def _timed(self, name: str, work: Callable[[], None]) -> float:
        start = clock()
        work()
        self.times[name] = clock() - start
        return self.times[name]

    def _setup(self) -> None:
        settings = {
            Key.SAMPLE_NUMBER: self.sites,
            Key.SHARE_NUMBER: self.sites,
            Key.THRESHOLD: self.threshold,
            Key.CLIPPING_RANGE: CLIPPING,
            Key.TARGET_RANGE: TARGET,
            Key.MOD_RANGE: MODULUS,
            Key.MAX_WEIGHT: 1000.0,
        }
        for number in range(1, self.sites + 1):
            state = self.states[number] = CLIENT.SecAggPlusState()
            state.nid = number
            said = CLIENT._setup(state, dict(settings))
            self.keys[number] = (said[Key.PUBLIC_KEY_1], said[Key.PUBLIC_KEY_2])

    def _share(
        self, number: int, sent: dict[int, list[bytes]], sources: dict[int, list[int]]
    ) -> None:
        everyone = {str(k): keys for k, keys in self.keys.items()}
        said = CLIENT._share_keys(self.states[number], everyone)
        for to, text in zip(said[Key.DESTINATION_LIST], said[Key.CIPHERTEXT_LIST], strict=True):
            sent[to].append(text)
            sources[to].append(number)

    def _hand_out_shares(self, sent: dict[int, list[bytes]], sources: dict[int, list[int]]) -> None:
        """The other clients keep their shares; their vectors would be as the first one's."""
        for number in list(self.states)[1:]:
            state = self.states[number]
            for source, text in zip(sources[number], sent[number], strict=True):
                plain = CLIENT.decrypt(state.ss2_dict[source], text)
                _, _, seed, key = CLIENT.share_keys_plaintext_separate(plain)
                state.rd_seed_share_dict[source], state.sk1_share_dict[source] = seed, key

    def _serve(self) -> float:
        workflow, state = SERVER.SecAggPlusWorkflow(1.0, 2 / 3), SERVER.WorkflowState()
        everyone = set(self.states)
        state.sampled_node_ids, state.active_node_ids = set(everyone), set(everyone)
        state.num_shares, state.threshold = self.sites, self.threshold
        state.clipping_range, state.quantization_range = CLIPPING, TARGET
        state.mod_range, state.max_weight = MODULUS, 1000.0
        state.nid_to_neighbours = {k: set(everyone) for k in everyone}
        state.nid_to_publickeys = {k: list(keys) for k, keys in self.keys.items()}
        state.forward_srcs = {k: [] for k in everyone}
        state.forward_ciphertexts = {k: [] for k in everyone}
        state.nid_to_fitins = {k: RecordDict() for k in everyone}
        state.nid_to_proxies = dict.fromkeys(everyone)
        main = {CONSTANTS.MAIN_CONFIGS_RECORD: {CONSTANTS.Key.CURRENT_ROUND: 1}}
        context = SimpleNamespace(
            state=SimpleNamespace(config_records=main),
            strategy=SimpleNamespace(aggregate_fit=lambda *_: (None, {})),
        )
        grid = SimpleNamespace(send_and_receive=self._answer)
        start, self.in_grid = clock(), 0.0
        assert workflow.collect_masked_vectors_stage(grid, context, state)
        assert workflow.unmask_stage(grid, context, state)
        return clock() - start - self.in_grid

    def _answer(
        self, messages: Sequence[SimpleNamespace], timeout: float | None = None
    ) -> list[SimpleNamespace]:
        del timeout
        start = clock()
        replies = [self._reply(message) for message in messages]
        self.in_grid += clock() - start
        return replies

    def _reply(self, message: SimpleNamespace) -> SimpleNamespace:
        number = message.metadata.dst_node_id
        asked = message.content.config_records[CONFIG.RECORD_KEY_CONFIGS]
        if asked[Key.STAGE] == Stage.COLLECT_MASKED_VECTORS:
            said = {Key.MASKED_PARAMETERS: self.masked}
        else:
            start = clock()
            said = CLIENT._unmask(self.states[number], asked)
            self.times["unmask"] = clock() - start
        done = COMMON.FitRes(
            COMMON.Status(COMMON.Code.OK, ""), COMMON.ndarrays_to_parameters([]), EXAMPLES, {}
        )
        content = RECORDS.fitres_to_recorddict(done, True)
        content.config_records[CONFIG.RECORD_KEY_CONFIGS] = ConfigRecord(said, False)
        return SimpleNamespace(
            metadata=SimpleNamespace(src_node_id=number), has_error=lambda: False, content=content
        )
