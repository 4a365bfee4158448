# SPDX-License-Identifier: Apache-2.0
"""A federation of offices: a coordinator and three hospitals with a dataset and a steward each."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.adapters.office.made import (
    Staff,
    as_office,
    associate,
    make_folder,
    make_office,
    new_dataset,
    project_draft,
)

from consilium.governance.access import Actor

SITES = ("charite", "lmu", "tum")


class Federation:
    """Four offices that know each other; the researcher is at the coordinator's."""

    def __init__(self, folder: Path) -> None:
        self.centre = make_office(folder, "centre", "coordinator")
        self.sites = {name: make_office(folder, name) for name in SITES}
        self.researcher = self.centre.join("rossi")
        for seed, site in enumerate(self.sites.values()):
            steward = site.join("weber", "Data Steward")
            made = make_folder(folder / "data" / site.name / "hearts", seed=seed)
            site.office.datasets.register(steward, new_dataset(made))
            associate(site, self.centre)
            for other in self.sites.values():
                if other.name < site.name:
                    associate(site, other)
            self._learn(self.centre, site)

    def _learn(self, here: Staff, there: Staff) -> None:
        steward = there.people["weber"]
        here.office.datasets.take_cards(
            as_office(here, there), there.office.datasets.cards(steward)
        )

    def steward(self, site: str) -> Actor:
        return self.sites[site].people["weber"]

    def submitted(self, **changes: object) -> str:
        """A project of all three sites, submitted and delivered to each."""
        datasets = dict.fromkeys(SITES, "hearts")
        draft = project_draft(datasets, **changes)  # type: ignore[arg-type]  # its own keywords
        projects = self.centre.office.projects
        made = projects.draft(self.researcher, draft)
        projects.submit(self.researcher, made.id)
        self.carry()
        return made.id

    def carry(self) -> None:
        """Every office tells every other what it may know, through the coordinator, twice."""
        for _ in range(2):
            for site in self.sites.values():
                self._bring(self.centre, site)
                self._bring(site, self.centre)

    def _bring(self, there: Staff, here: Staff) -> None:
        """`here` gives, `there` takes."""
        for message in here.office.exchange.export_all(as_office(here, there)):
            there.office.exchange.take(as_office(there, here), message)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Made once, copied for every test."""
    made = Federation(tmp_path_factory.mktemp("template"))
    for staff in (made.centre, *made.sites.values()):
        staff.office.close()
    return made


@pytest.fixture
def federation(template: Federation, tmp_path: Path) -> Iterator[Federation]:
    own = copy.copy(template)
    own.centre = template.centre.copied(tmp_path)
    own.sites = {name: staff.copied(tmp_path) for name, staff in template.sites.items()}
    yield own
    for staff in (own.centre, *own.sites.values()):
        staff.office.close()


@pytest.fixture
def site(tmp_path: Path) -> Staff:
    return make_office(tmp_path, "charite")


@pytest.fixture
def registered(tmp_path: Path, site: Staff) -> Staff:
    site.join("weber", "Data Steward")
    folder = make_folder(tmp_path / "data")
    site.office.datasets.register(site.people["weber"], new_dataset(folder))
    return site
