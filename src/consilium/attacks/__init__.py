# SPDX-License-Identifier: Apache-2.0
"""Measured privacy loss: attacks on what was trained, to hold a claim against.

An attack that fails proves nothing; one that succeeds beyond its claim proves a mistake.
"""
