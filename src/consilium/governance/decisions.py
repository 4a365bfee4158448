# SPDX-License-Identifier: Apache-2.0
"""Whether an actor may do an action to a resource: `decide`, over the table `rules.RULES`."""

from typing import Final

from consilium.errors import AccessDenied
from consilium.governance.access import Action, Actor, Decision, Resource
from consilium.governance.rules import RULES, Relation, Rule


def decide(actor: Actor, action: Action, resource: Resource) -> Decision:
    """Returns whether `actor` may do `action` to `resource`, and why (not).

    Guarantees: no, where no row of the table says yes.
    """
    missing = [_missing(rule, actor, resource) for rule in RULES.get(action, ())]
    if not missing:
        return Decision(False, f"nobody may {action}")
    nearest = min(map(len, missing))
    if nearest == 0:
        return Decision(True, f"{actor.name} may {action}")
    ways = ["; ".join(one) for one in missing if len(one) == nearest]
    return Decision(False, f"to {action} one must: {', or '.join(ways)}")


def check(actor: Actor, action: Action, resource: Resource) -> None:
    """Refuses what `decide` denies.

    Raises:
        AccessDenied: With the reason.
    """
    decision = decide(actor, action, resource)
    if not decision.allowed:
        raise AccessDenied(f"{decision.reason}")


def _missing(rule: Rule, actor: Actor, resource: Resource) -> list[str]:
    """Returns in words what keeps `rule` from allowing this; empty: it does."""
    if rule.kind is not actor.kind:  # the furthest of all reasons
        return [f"be a {rule.kind}", "prove it", "and ask as one"]
    reasons = []
    if rule.permission is not None and rule.permission not in actor.permissions:
        reasons.append(f"hold the permission {rule.permission}")
    reasons += [
        _WORDS[relation]
        for relation in sorted(rule.relations)
        if not _holds(relation, actor, resource)
    ]
    if rule.states is not None and resource.state not in rule.states:
        known = ", ".join(sorted(rule.states))
        reasons.append(f"find it {known}; it is {resource.state or 'not there'}")
    return reasons


def _holds(relation: Relation, actor: Actor, resource: Resource) -> bool:
    own = actor.groups | {actor.id}
    holds = {
        Relation.AUTHOR: resource.author == actor.id,
        Relation.NOT_AUTHOR: actor.id not in resource.people | {resource.author},
        Relation.MEMBER: actor.id in resource.people,
        Relation.SELF: resource.subject == actor.id,
        Relation.NOT_SELF: resource.subject not in own,
        Relation.HOLDS_ALL: resource.permissions <= actor.permissions,
        Relation.GRANTED: not own.isdisjoint(resource.granted),
        Relation.BOUND: actor.project is not None and actor.project == resource.id,
    }
    return holds[relation]


_WORDS: Final = {
    Relation.AUTHOR: "be its author",
    Relation.NOT_AUTHOR: "neither be its author nor take part in it: nobody decides on their own",
    Relation.MEMBER: "take part in it",
    Relation.SELF: "be the person it concerns",
    Relation.NOT_SELF: "be somebody else: nobody changes their own rights",
    Relation.HOLDS_ALL: "hold every permission that it hands out or takes away",
    Relation.GRANTED: "have a grant on it",
    Relation.BOUND: "hold a token for this very project",
}
