# SPDX-License-Identifier: Apache-2.0
"""One database of an office: tables and transactions. The rules are in `governance`."""
