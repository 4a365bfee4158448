# SPDX-License-Identifier: Apache-2.0
"""Rounds of a project among sites: what is agreed, said, computed and charged. No effects."""
