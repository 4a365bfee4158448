# SPDX-License-Identifier: Apache-2.0
"""Who takes part in a step, and their records: drawn as the plan says, and in no other way.

A whole Poisson sample gives a batch of as many records as it happens to have. A sample that
is cut gives a batch of one shape, the same at every step: `most_drawn` places for patients,
each with room for the records of the patient who has most. A patient's missing records repeat
the first one at weight 0; a place where nobody is holds zeros at weight 0, and adds nothing.

Guarantees: the sampler is the one that the plan prices. The shape of a batch of places tells
how many records a patient may have, up to a power of two, and nothing of who was drawn.
"""

from typing import final

import torch
from torch import Tensor

from consilium.dp.clipping import PatientBatch
from consilium.dp.per_patient import Chunk
from consilium.dp.plan import Plan
from consilium.dp.sampling import poisson_sample
from consilium.dp.team import ALONE, Team
from consilium.dp.truncated import truncated_poisson_sample
from consilium.errors import PrivacyError
from consilium.keystream import Keystream


@final
class Roster:
    """The patients of a training, and where their records lie.

    Raises:
        PrivacyError: There are more patients than the plan knows of, which makes cuts likelier
            than it prices.
    """

    def __init__(self, records: PatientBatch, plan: Plan) -> None:
        _, owner, counts = torch.unique(
            records.patients.cpu(), return_inverse=True, return_counts=True
        )
        self._records = records
        self._plan = plan
        self._counts = counts
        order = owner.argsort(stable=True)
        self._rows = torch.split(order, counts.tolist()) if len(counts) else ()
        if plan.most_drawn is not None and len(counts) > plan.patients:
            raise PrivacyError(
                f"the records are of {len(counts)} patients, expected at most {plan.patients}: "
                "samples would be cut more often than is priced; build the plan for all of them"
            )

    def draw(
        self, coins: Keystream, device: torch.device, team: Team = ALONE
    ) -> PatientBatch | Chunk:
        """Returns the records of this process's part of one sample.

        Args:
            coins: Of a key for this sample only, the same in all processes of the team.
            device: Of the batch.
            team: Every process gets each `team.size`-th patient or place.
        """
        plan, count = self._plan, len(self._rows)
        mine = slice(team.rank, None, team.size)
        if plan.most_drawn is None:
            drawn = poisson_sample(count, plan.sampling_probability, coins)
            return self._taken([self._rows[k] for k in drawn[mine].tolist()], device)
        sample = truncated_poisson_sample(count, plan.sampling_probability, plan.most_drawn, coins)
        positions, present = sample.positions[mine], sample.present[mine]
        rows = [self._rows[k] for k in positions[present].tolist()]
        return self._placed(rows, len(positions), device)

    def _taken(self, rows: list[Tensor], device: torch.device) -> PatientBatch:
        records = self._records
        chosen = torch.cat([torch.zeros(0, dtype=torch.int64), *rows]).to(records.inputs.device)
        return PatientBatch(
            inputs=records.inputs[chosen].to(device),
            labels=records.labels[chosen].to(device),
            patients=records.patients[chosen].to(device),
        )

    def _placed(self, rows: list[Tensor], places: int, device: torch.device) -> Chunk:
        records = self._records
        most = int(self._counts.max()) if len(self._counts) else 1
        shape = (places, 1 << (most - 1).bit_length())
        inputs = records.inputs.new_zeros(*shape, *records.inputs.shape[1:])
        labels = records.labels.new_zeros(*shape, *records.labels.shape[1:])
        weights = torch.zeros(shape, dtype=torch.float64)
        for place, own in enumerate(rows):
            chosen = torch.cat([own, own[:1].expand(shape[1] - len(own))])
            chosen = chosen.to(records.inputs.device)
            inputs[place], labels[place] = records.inputs[chosen], records.labels[chosen]
            weights[place, : len(own)] = 1 / len(own)
        return Chunk(inputs.to(device), labels.to(device), weights.to(device))
