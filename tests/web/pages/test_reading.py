# SPDX-License-Identifier: Apache-2.0
"""Every value has words on the pages."""

import pytest

from consilium.governance.contract import Verdict
from consilium.web.pages.reading import verdict_tag


@pytest.mark.parametrize("verdict", [None, *Verdict])
def test_every_verdict_has_a_tag(verdict: Verdict | None) -> None:
    assert verdict_tag(verdict).text
