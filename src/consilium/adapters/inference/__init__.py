# SPDX-License-Identifier: Apache-2.0
"""Encrypted inference as processes: kits, links, one-time material on disk, the patient's end.

`kit.py` who is who, `links.py` TLS between them, `material_store.py` what is used once,
`computing.py` operators 0 and 1, `dealing.py` the third, `public_end.py` HTTPS for shares,
`asking.py` and `publishing.py` the other ends. Rules are in `consilium.inference`.
"""
