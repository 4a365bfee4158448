# SPDX-License-Identifier: Apache-2.0
"""The pages of an office, for people: one router, and how an error looks.

Not here: the application, security and sessions (`web.app`), the API (`web.api`). The order
matters: an address with a fixed word comes before one that takes any.
"""

from typing import Final

from fastapi import APIRouter

from consilium.web.pages import (
    account,
    datasets,
    offices,
    people,
    projects,
    provider,
    research,
    roles,
    runs,
)
from consilium.web.pages.showing import problem_page

router: Final = APIRouter(include_in_schema=False)
for _part in (account, provider, research, projects, datasets, people, roles, offices, runs):
    router.include_router(_part.router)

__all__ = ["problem_page", "router"]
