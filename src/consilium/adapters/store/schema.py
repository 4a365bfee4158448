# SPDX-License-Identifier: Apache-2.0
"""Every module that declares tables, so that `METADATA` is whole once this one is imported."""

from consilium.adapters.store import identity_tables, ledger_tables, office_tables
from consilium.adapters.store.metadata import METADATA

__all__ = ["METADATA", "identity_tables", "ledger_tables", "office_tables"]
