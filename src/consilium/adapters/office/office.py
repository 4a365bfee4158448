# SPDX-License-Identifier: Apache-2.0
"""An office: a site or a coordinator, with its services over one database."""

from typing import final

from consilium.adapters.office.association import Associations
from consilium.adapters.office.datasets import Datasets
from consilium.adapters.office.desk import Desk
from consilium.adapters.office.grants import Grants
from consilium.adapters.office.log import Log
from consilium.adapters.office.models import Models
from consilium.adapters.office.people import People
from consilium.adapters.office.processes import Processes
from consilium.adapters.office.projects import Projects
from consilium.adapters.office.roles import Roles
from consilium.adapters.office.settings import OfficeSettings


@final
class Office:
    """The services of one office. Threads share it; `open_office(folder)` makes one."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.people, self.roles = People(desk), Roles(desk)
        self.datasets, self.grants = Datasets(desk), Grants(desk)
        self.projects, self.models = Projects(desk), Models(desk)
        self.log, self.associations = Log(desk), Associations(desk)
        self.processes = Processes(desk)
        self.settings = OfficeSettings(desk)
