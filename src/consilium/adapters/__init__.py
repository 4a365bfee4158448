# SPDX-License-Identifier: Apache-2.0
"""What connects the cores to the world outside: files, networks, engines. No rule lives here."""
