# SPDX-License-Identifier: Apache-2.0
"""Schemathesis: what the OpenAPI document allows, and much that it does not, for every route."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)
from tests.web.api.conftest import API, Hospital

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    ignored_auth,
]


SIGNED_OUT = "/session(/all|/password)?$"  # these would sign the tests out


def test_every_route_answers_as_it_says(hospital: Hospital) -> None:
    schema = schemathesis.openapi.from_url(f"{hospital.origin}{API}/openapi.json")
    tested = schema.exclude(method=["DELETE", "PUT"], path_regex=SIGNED_OUT)

    operations = [found.ok() for found in tested.get_all_operations() if isinstance(found, Ok)]

    assert len(operations) > 90
    seen: set[int] = set()
    for operation in operations:
        _hold(hospital, operation.as_strategy(), seen)
    assert {200, 201, 404, 422} <= seen


def _hold(hospital: Hospital, cases: SearchStrategy[Case[Any]], seen: set[int]) -> None:
    """Sends two made-up requests and holds the answers against the document."""

    @settings(
        max_examples=2,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def hold(case: Case[Any]) -> None:
        answer = case.call(
            headers={"Origin": hospital.origin},
            cookies=dict(hospital.clients["olga"].cookies),
            timeout=60,
        )
        case.validate_response(answer, checks=CHECKS)
        seen.add(answer.status_code)

    hold()
