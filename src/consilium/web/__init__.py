# SPDX-License-Identifier: Apache-2.0
"""What people read of a training: a report that opens offline, its figures, its numbers."""
