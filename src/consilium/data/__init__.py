# SPDX-License-Identifier: Apache-2.0
"""Records keyed by patient: readers, splits, duplicates and the division among sites."""
