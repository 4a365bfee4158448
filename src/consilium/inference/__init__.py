# SPDX-License-Identifier: Apache-2.0
"""A private diagnosis: what operators compute on shares, and why none of them sees an image.

Not here: processes and connections (`adapters`), the page on the phone (`web`).
"""
