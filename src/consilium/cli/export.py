# SPDX-License-Identifier: Apache-2.0
"""`consilium export`: a trained model as one ONNX file with its card."""

from pathlib import Path
from typing import Final

import msgspec
import typer

from consilium.adapters.finished_models import load_finished, read_papers
from consilium.adapters.model_card import card_path, worst_epsilon
from consilium.adapters.office.moments import system_clock
from consilium.adapters.picture_kinds import kind_of
from consilium.adapters.publisher_key import signer_of
from consilium.adapters.releasing import Wanted, release_of
from consilium.cli.extras import imported
from consilium.cli.model import Signing
from consilium.data.framing import Frame
from consilium.governance.model_permissions import HOLDING, Use
from consilium.governance.model_permits import may_use_under
from consilium.sdk import default_data_folder

_EXTRA: Final = "export"


def export(
    source: Path,
    out: Path,
    *,
    arm: str,
    kind: str | None,
    frame: Frame | None,
    data: Path | None,
    signing: Signing,
    as_json: bool,
) -> None:
    """Exports, and says what was written.

    Raises:
        ConsiliumError: What was asked for is refused.
    """
    exporting = imported("consilium.adapters.onnx_export", _EXTRA)
    finished = load_finished(source, arm=arm)
    folder = data or default_data_folder()
    known = kind_of(finished.project.data.source, kind, folder)
    wanted = Wanted(uses=HOLDING, words=signing.permission, narrowest=Use.DEVICE)
    papers = read_papers(source, arm=arm)
    release = release_of(finished, papers, wanted, signer_of(signing.key), system_clock())
    wishes = exporting.Wishes(kind=known, frame=frame, data=folder, release=release)
    card = exporting.export_model(finished, out, wishes)
    if as_json:
        typer.echo(msgspec.json.encode(card).decode())
        return
    typer.echo(f"{out}: {card.size / 1e6:.2f} MB, {card.network}, opset {card.opset}")
    typer.echo(f"{card_path(out)}: classes {', '.join(card.classes)}")
    typer.echo(f"sha256 {card.sha256}")
    typer.echo(
        f"equal to PyTorch within {card.checked.tolerance:g} on {card.checked.pictures} made-up "
        "pictures"
    )
    epsilon = worst_epsilon(card.privacy)
    typer.echo(f"private: epsilon {epsilon:.4f} in the worst view; the card has the statement")
    typer.echo(f"allowed: {', '.join(card.permit.permissions.words())}")
    typer.echo(f"signed by {card.publisher.name}: {card.publisher.words()}")
    if may_use_under(card.permit, Use.DEVICE).allowed:
        typer.echo(f"next: consilium phone serve {out}")
