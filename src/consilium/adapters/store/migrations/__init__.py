# SPDX-License-Identifier: Apache-2.0
"""Revisions in one line: 0001_ledger, 0002_office, 0003_identity, 0004_departures.

There is no way down but a backup.
"""
