# SPDX-License-Identifier: Apache-2.0
"""What one run of one arm leaves behind: a value that becomes one line of results.jsonl."""

import msgspec

from consilium.federation.statement import Statement
from consilium.learning.map_metrics import MapMetrics
from consilium.learning.metrics import Metrics
from consilium.learning.readers import ReaderComparison


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the validation records during training.

    Attributes:
        round: After how many rounds.
        learning_rate: Of that round.
        loss: Mean cross-entropy, nats.
        auc: None where a class is missing.
        accuracy: 0 to 1; of label maps that of pixels.
        dice: Of label maps: mean foreground Dice of a patient.
        epsilon: Spent so far in the worst view; None without a guarantee.
    """

    round: int
    learning_rate: float
    loss: float
    auc: float | None
    accuracy: float
    epsilon: float | None
    dice: float | None = None


class SiteShare(msgspec.Struct, frozen=True, kw_only=True):
    """What one site held and sent.

    Attributes:
        name: Of the site.
        patients: Privacy units.
        records: Images or rows.
        class_counts: Records by class; empty where the site keeps them to itself.
        charges: Steps that its ledger holds.
        bytes_up: Sent in the whole run.
        bytes_down: Received in the whole run.
    """

    name: str
    patients: int
    records: int
    class_counts: tuple[int, ...]
    charges: int
    bytes_up: int
    bytes_down: int


class TrafficReport(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the protocol at the first site in a typical (median) round, and over the run.

    Attributes:
        round_up: Sent a round.
        round_down: Received a round.
        predicted_up: What the protocol predicts for that round.
        predicted_down: The same, received.
        total: Over all sites and rounds, set-up included, both ways.
        predicted_total: What the protocol predicts; None if a site dropped.
        error_bound: Largest rounding error of a sum, in units of the gradient or change.
        ring_bits: Width of a ring element.
    """

    round_up: int
    round_down: int
    predicted_up: int
    predicted_down: int
    total: int
    predicted_total: int | None
    error_bound: float
    ring_bits: int


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """One trained model and everything worth knowing of it.

    Of label maps, `test` takes each pixel for a record (without an AUC), and `maps` holds the
    overlap by patient; else `maps` is None. `ordered` classes are grades: then the quadratic
    kappa of `test` means something. `reader` is how a human reader compares, if there is one.
    """

    project: str
    arm: str
    sentence: str
    seed: int
    model: str
    parameters: int
    data: str
    classes: tuple[str, ...]
    reason: str
    rounds: int
    attempts: int
    seconds: float
    curve: tuple[Point, ...]
    test: Metrics
    test_looks: int
    statement: Statement
    sites: tuple[SiteShare, ...]
    traffic: TrafficReport
    secure_sum: str
    terms: str
    duplicates: str
    versions: dict[str, str]
    maps: MapMetrics | None = None
    ordered: bool = False
    reader: ReaderComparison | None = None
