# SPDX-License-Identifier: Apache-2.0
"""One file a model, each built by `registry.build`.

Guarantees: no layer of these networks looks across records (no batch normalisation, no
running statistics, no dropout), so that one record's output and gradient depend on that
record alone: the premise of per-patient clipping, and of equal answers alone or in a batch.
"""
