# SPDX-License-Identifier: Apache-2.0
"""The forms of a dataset: what they ask, and what they say will happen."""

from collections.abc import Mapping
from typing import Final

from consilium.adapters.office.values import Raise
from consilium.governance.catalogue import Dataset
from consilium.governance.grants import ReleaseKind
from consilium.web.pages.parts import Fact, Field, Form, Kind, Link, Option, Tone
from consilium.web.pages.views import ActionView

_KINDS: Final = {
    ReleaseKind.TRAINING: ("Training", "Noisy sums of gradients."),
    ReleaseKind.QUERY: ("Queries", "Noisy counts, means and histograms."),
    ReleaseKind.METRIC: ("Looks at a metric", "One noisy number a look."),
}


def register_view(cap: float) -> ActionView:
    """Returns the form by which a dataset is registered."""
    return ActionView(
        kind="Datasets",
        title="Register a dataset",
        lead="The data stay where they are. This office keeps their description, their "
        "fingerprint and their budget.",
        cli="consilium dataset register NAME FOLDER --description TEXT",
        happens=(
            "The folder is read once, to check it and to take its fingerprint.",
            "The number of its patients is published with noise; that costs a little budget.",
            "Nobody may use it until you make a grant or approve a project.",
        ),
        form=Form(
            action="/datasets/new",
            submit="Register",
            back=Link("Back", "/datasets"),
            fields=(
                Field(name="name", label="Name", hint="Short, as others will read it: CXR-2024."),
                Field(
                    name="folder",
                    label="Folder on this machine",
                    hint="One that `consilium data import` made; it holds a dataset.json.",
                ),
                Field(name="description", label="What is it?", kind=Kind.LINES),
                Field(
                    name="tags",
                    label="Tags",
                    hint="Separated by commas: x-ray, children.",
                    required=False,
                ),
                Field(
                    name="cap",
                    label="Cap",
                    kind=Kind.NUMBER,
                    unit="epsilon per patient",
                    hint=f"The rules of this office say {cap:g}. Lowering it later takes one "
                    "person, raising it two.",
                    required=False,
                ),
            ),
        ),
    )


def cap_view(one: Dataset) -> ActionView:
    """Returns the form that lowers a cap."""
    return ActionView(
        kind=one.name,
        title="Lower the cap",
        cli="",
        happens=("It holds from the next charge on. A run that no longer fits stops.",),
        form=Form(
            action=f"/datasets/{one.id}/cap",
            submit="Lower the cap",
            back=_back(one),
            fields=(
                Field(
                    name="epsilon",
                    label="New cap",
                    kind=Kind.NUMBER,
                    unit=f"epsilon per {one.unit}",
                ),
            ),
        ),
    )


def raise_view(one: Dataset, *, unfreeze: bool) -> ActionView:
    """Returns the form that proposes a higher cap, or to unfreeze."""
    cap = Field(name="epsilon", label="New cap", kind=Kind.NUMBER, unit=f"epsilon per {one.unit}")
    return ActionView(
        kind=one.name,
        title="Unfreeze the dataset" if unfreeze else "Raise the cap",
        lead="This needs two people. You propose it; somebody else confirms it.",
        cli="",
        stays=() if unfreeze else ("What is then spent stays spent, for every patient.",),
        told=("Everybody here who may confirm it",),
        form=Form(
            action=f"/datasets/{one.id}/raise",
            submit="Propose it",
            back=_back(one),
            fields=(
                *(() if unfreeze else (cap,)),
                Field(name="reason", label="Why?", kind=Kind.LINES),
            ),
        ),
    )


def confirm_view(one: Dataset, proposal: Raise) -> ActionView:
    """Returns what the second person decides."""
    wanted = "unfreeze it" if proposal.epsilon is None else f"a cap of {proposal.epsilon:g}"
    return ActionView(
        kind=one.name,
        title="Confirm what somebody else proposed",
        cli="",
        facts=(
            Fact("Proposed", wanted),
            Fact("By", proposal.proposed_by_name, f"{proposal.proposed:%Y-%m-%d %H:%M} UTC"),
            Fact("Reason", proposal.reason),
        ),
        form=Form(
            action=f"/datasets/{one.id}/raises/{proposal.id}",
            submit="Confirm",
            back=Link("Leave it", f"/datasets/{one.id}"),
            fields=(
                Field(
                    name="agreed",
                    label="Do you agree?",
                    kind=Kind.CHOICE,
                    options=(Option(value="yes", text="Yes, I have read the reason"),),
                ),
            ),
        ),
    )


def freeze_view(one: Dataset) -> ActionView:
    """Returns the form that stops every new charge."""
    return ActionView(
        kind=one.name,
        title="Freeze the dataset",
        cli=f"consilium dataset freeze {one.name} --reason TEXT",
        happens=(
            "Nothing new is charged to it from now on; runs on it stop at their next step.",
            "To unfreeze it takes two people.",
        ),
        stays=("What was released before stays released.",),
        told=("The authors of projects on it",),
        form=Form(
            action=f"/datasets/{one.id}/freeze",
            submit="Freeze",
            tone=Tone.STOP,
            back=_back(one),
            fields=(Field(name="reason", label="Why?", kind=Kind.LINES),),
        ),
    )


def withdraw_view(one: Dataset) -> ActionView:
    """Returns the form that ends a dataset's use for good."""
    return ActionView(
        kind=one.name,
        title="Withdraw the dataset",
        cli=f"consilium dataset withdraw {one.name} --reason TEXT",
        happens=(
            "Every project on it is revoked here; runs stop at their next step.",
            "Its ledger and its log are kept.",
        ),
        stays=(
            "A withdrawn dataset does not come back.",
            "What was released before stays released.",
        ),
        told=("The authors of projects on it", "The other offices"),
        form=Form(
            action=f"/datasets/{one.id}/withdraw",
            submit="Withdraw",
            tone=Tone.STOP,
            back=_back(one),
            fields=(
                Field(name="reason", label="Why?", kind=Kind.LINES),
                Field(name="confirm", label="Type the dataset's name to confirm", hint=one.name),
            ),
        ),
    )


def grant_view(one: Dataset, names: Mapping[str, str]) -> ActionView:
    """Returns the form by which somebody may use a dataset."""
    return ActionView(
        kind=one.name,
        title="Make a grant",
        lead="Who may ask for what, why, up to which price, until when. Every project is still "
        "decided on by itself.",
        cli="",
        form=Form(
            action=f"/datasets/{one.id}/grant",
            submit="Make the grant",
            back=_back(one),
            fields=(
                Field(
                    name="holder",
                    label="Who?",
                    kind=Kind.CHOICE,
                    options=tuple(
                        Option(value=identity, text=name) for identity, name in names.items()
                    ),
                ),
                Field(
                    name="kinds",
                    label="What may leave?",
                    kind=Kind.SEVERAL,
                    options=tuple(
                        Option(value=kind, text=text, hint=hint)
                        for kind, (text, hint) in _KINDS.items()
                    ),
                ),
                Field(
                    name="purposes",
                    label="For which purposes?",
                    hint="Separated by commas; leave it empty for any that is approved.",
                    required=False,
                ),
                Field(
                    name="epsilon_cap",
                    label="Most that it may cost together",
                    kind=Kind.NUMBER,
                    unit=f"epsilon per {one.unit}",
                ),
                Field(name="until", label="Until", kind=Kind.DATE),
            ),
        ),
    )


def _back(one: Dataset) -> Link:
    return Link("Back to the dataset", f"/datasets/{one.id}")
