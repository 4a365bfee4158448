# SPDX-License-Identifier: Apache-2.0
"""An entry of the audit log as one plain sentence."""

import json
from typing import Final

from consilium.governance.audit_log import Entry, Outcome

DONE: Final = {
    "edit-settings": "changed the rules of the office",
    "invite-person": "invited {}",
    "change-person": "changed the account of {}",
    "assign-roles": "changed the roles of {}",
    "reset-person": "sent a link for a new password to {}",
    "revoke-person": "ended the account of {}",
    "edit-role": "changed the role {}",
    "edit-group": "changed the group {}",
    "change-members": "changed who is in the group {}",
    "register-dataset": "registered the dataset {}",
    "edit-dataset": "changed the card of the dataset {}",
    "withdraw-dataset": "withdrew the dataset {}",
    "freeze-dataset": "froze the dataset {}",
    "lower-cap": "lowered the cap of {}",
    "propose-raise": "proposed a higher cap for {}",
    "confirm-raise": "confirmed a higher cap for {}",
    "opt-out": "left a patient out from now on",
    "deliver-cards": "sent the cards of its datasets",
    "give-grant": "gave a grant",
    "revoke-grant": "revoked a grant",
    "make-request": "asked for a grant",
    "decide-request": "answered a request",
    "withdraw-request": "withdrew a request",
    "draft-project": "drafted the project {}",
    "edit-project": "changed the project {}",
    "submit-project": "submitted the project {}",
    "deliver-project": "sent the project {}",
    "open-review": "began to review the project {}",
    "approve-project": "approved the project {}",
    "ask-about-project": "asked a question about the project {}",
    "refuse-project": "refused the project {}",
    "revoke-project": "revoked the project {}",
    "start-run": "began to train {}",
    "pause-run": "paused the training of {}",
    "resume-run": "let the training of {} go on",
    "stop-run": "stopped the training of {}",
    "report-run": "said what became of the training of {}",
    "publish-model": "published the model {}",
    "edit-model": "changed what the model {} is open for",
    "withdraw-model": "withdrew the model {}",
    "download-model": "downloaded the model {}",
    "host-process": "opened a hosted training",
    "join-process": "joined a hosted training",
    "close-process": "closed a hosted training",
    "request-association": "asked to be associated",
    "decide-association": "answered an association",
    "revoke-association": "disconnected an office",
    "witness-log": "signed how far this log reaches",
    "verify-log": "checked this log",
    "export-log": "exported this log",
    "sign-in": "signed in",
    "sign-out": "signed out",
    "make-entry-link": "made a link that lets somebody in once",
}


def sentence(entry: Entry) -> str:
    """Returns who did what, or tried to, with the name of the thing where the entry has it."""
    who = entry.actor_name or entry.actor
    kind, _, number = entry.resource.partition(":")
    name = _name(entry.facts) or number
    if entry.outcome is Outcome.DENIED:
        return f"{who} tried to {entry.action.replace('-', ' ')}, {kind} {name}: refused."
    words = DONE.get(entry.action)
    if words is None:
        return f"{who}: {entry.action.replace('-', ' ')}, {kind} {name}."
    return f"{who} {words.format(name)}."


def _name(facts: str) -> str:
    known = json.loads(facts or "{}")
    names = (known.get(key) for key in ("name", "project")) if isinstance(known, dict) else ()
    return next((name for name in names if isinstance(name, str) and name), "")
