# SPDX-License-Identifier: Apache-2.0
"""Whether a run may charge: its project is approved here, unexpired, not revoked, not paused.

A ledger asks it in the transaction of every charge, so a revocation stops a run at its next step.
"""
