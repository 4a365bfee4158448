# SPDX-License-Identifier: Apache-2.0
"""Runs migrations in the transaction that the caller holds; `migrating` is the only caller."""

from alembic import context

from consilium.adapters.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
