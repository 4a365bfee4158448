# SPDX-License-Identifier: Apache-2.0
"""The forms by which a project is decided on: what they ask, and what they say will happen."""

from typing import Final

from consilium.adapters.office.values import ProjectView
from consilium.web import formats
from consilium.web.pages.parts import Fact, Field, Form, Kind, Link, Option, Tone
from consilium.web.pages.views import ActionView, Price

REASONS: Final = {
    "purpose": "The purpose is not one that this hospital allows.",
    "price": "The price is too high for what is expected of it.",
    "data": "The data asked for are more than the purpose needs.",
    "people": "It is not clear who will use the results.",
    "other": "",
}
_WORDS: Final = (
    Option(value="purpose", text="The purpose is not one we allow"),
    Option(value="price", text="The price is too high", hint="The author sees what would fit."),
    Option(value="data", text="More data than the purpose needs"),
    Option(value="people", text="It is not clear who will use the results"),
    Option(value="other", text="Another reason, in your own words"),
)


def approve_view(project: ProjectView, prices: tuple[Price, ...]) -> ActionView:
    """Returns the last page before an approval: what is signed, and on what conditions."""
    return ActionView(
        kind="Check before you approve",
        title=f"Approve {project.name}",
        cli=f"consilium project approve {project.id} --digest {project.digest[:12]}...",
        back=_back(project),
        facts=(
            Fact("Six words", project.words, "They stand for every letter of the project."),
            *(_price_fact(one) for one in prices),
            Fact("Ends", f"{project.expires:%Y-%m-%d}", "You may set an earlier day below."),
        ),
        happens=(
            "Your approval is signed with this hospital's key and sent to the other offices.",
            "It holds for exactly this project. Any change asks you again.",
            "The price is reserved when a run begins, and spent step by step.",
        ),
        stays=("You can revoke at any time. What was released by then stays released.",),
        told=("The author", "The other hospitals of the project"),
        form=Form(
            action=f"/projects/{project.id}/approve?of={project.digest}",
            submit="Approve",
            back=_back(project),
            fields=(
                Field(
                    name="word",
                    label="First word of the six above",
                    hint="So that nobody approves what they have not seen.",
                ),
                Field(
                    name="expires",
                    label="End it earlier, on",
                    kind=Kind.DATE,
                    required=False,
                ),
                Field(
                    name="max_runs",
                    label="Allow fewer runs",
                    kind=Kind.NUMBER,
                    hint=f"At most {project.max_runs}.",
                    step="1",
                    required=False,
                ),
                Field(
                    name="reviewers",
                    label="People here who must approve",
                    kind=Kind.NUMBER,
                    hint="Two or more makes somebody else look, too.",
                    step="1",
                    required=False,
                ),
                Field(name="note", label="A note to the author", kind=Kind.LINES, required=False),
            ),
        ),
    )


def _price_fact(price: Price) -> Fact:
    return Fact(
        f"Price on {price.dataset}",
        f"epsilon {formats.epsilon(price.alone)} at delta {formats.delta(price.delta)} "
        f"per {price.unit}",
        f"composed with what is spent: {formats.epsilon(price.after)} of {price.cap:g}",
    )


def ask_view(project: ProjectView) -> ActionView:
    """Returns the form for a question."""
    return ActionView(
        kind="Project",
        title=f"Ask about {project.name}",
        cli=f"consilium project ask {project.id} --words TEXT --digest {project.digest[:12]}...",
        back=_back(project),
        lead="The project goes back to its author until the question is answered.",
        form=Form(
            action=f"/projects/{project.id}/ask",
            submit="Send the question",
            back=_back(project),
            fields=(Field(name="words", label="Your question", kind=Kind.LINES),),
        ),
    )


def refuse_view(project: ProjectView) -> ActionView:
    """Returns the form for a refusal."""
    return ActionView(
        kind="Project",
        title=f"Refuse {project.name}",
        cli=f"consilium project refuse {project.id} --words TEXT --digest {project.digest[:12]}...",
        back=_back(project),
        stays=("A refusal is an end. The author can write a new project.",),
        told=("The author, with your reason", "The other hospitals of the project"),
        form=Form(
            action=f"/projects/{project.id}/refuse",
            submit="Refuse",
            tone=Tone.STOP,
            back=_back(project),
            fields=(
                Field(name="reason", label="Why?", kind=Kind.CHOICE, options=_WORDS),
                Field(
                    name="words",
                    label="What should the author know?",
                    kind=Kind.LINES,
                    required=False,
                ),
            ),
        ),
    )


def revoke_view(project: ProjectView) -> ActionView:
    """Returns the form that ends a project for good."""
    return ActionView(
        kind="Project",
        title=f"Revoke {project.name}",
        cli=f"consilium project revoke {project.id} --reason TEXT",
        back=_back(project),
        happens=(
            "This hospital stops at its next step, within 10 seconds.",
            "The round that is under way goes on without this hospital; the others finish.",
            "What is reserved and not spent goes back into the budget.",
            "It is in the log before this page comes back.",
        ),
        stays=(
            "What was released before cannot be called back. Its price stays spent.",
            "A revoked project cannot be approved again.",
        ),
        told=("The author", "The other hospitals of the project"),
        form=Form(
            action=f"/projects/{project.id}/revoke",
            submit="Revoke this project",
            tone=Tone.STOP,
            back=Link("Keep it", f"/projects/{project.id}"),
            fields=(
                Field(name="words", label="Why?", kind=Kind.LINES),
                Field(
                    name="confirm",
                    label="Type the project's name to confirm",
                    hint=project.name,
                ),
            ),
        ),
    )


def plain_view(project: ProjectView, word: str, title: str, lead: str) -> ActionView:
    """Returns the form for a step that needs no answers."""
    return ActionView(
        kind="Project",
        title=f"{title} {project.name}",
        lead=lead,
        cli="",
        back=_back(project),
        form=Form(
            action=f"/projects/{project.id}/{word}", fields=(), submit=title, back=_back(project)
        ),
    )


def stop_view(project: ProjectView) -> ActionView:
    """Returns the form that ends a run and its project."""
    return ActionView(
        kind="Run",
        title=f"Stop {project.name}",
        cli="",
        back=_back(project),
        stays=("A stopped project does not run again.",),
        told=("The author", "The hospitals of the project"),
        form=Form(
            action=f"/projects/{project.id}/stop",
            submit="Stop the run",
            tone=Tone.STOP,
            back=Link("Let it go on", f"/runs/{project.id}"),
            fields=(Field(name="words", label="Why?", kind=Kind.LINES),),
        ),
    )


def _back(project: ProjectView) -> Link:
    return Link("Back to the project", f"/projects/{project.id}")
