# SPDX-License-Identifier: Apache-2.0
"""Differential privacy: sampling, clipping, noise, and the price of them together.

The modules are parts of one mechanism, the Poisson-sampled Gaussian with one patient as the
privacy unit. Each states its own guarantee; `plan` is where they meet, and the only place
where they should. Not here: who may spend a budget, and the ledger that remembers it.
"""
