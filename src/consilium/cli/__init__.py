# SPDX-License-Identifier: Apache-2.0
"""The command `consilium`: thin, lazy, and the only place that turns errors into exit codes."""
