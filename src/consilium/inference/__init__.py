# SPDX-License-Identifier: Apache-2.0
"""A private diagnosis: what operators compute on shares, and why none of them sees an image.

Read `protocol.py` first: all parties in one function, with the security argument. `program.py`
is what they agreed to compute, `comparison.py` the one gate that is not linear, `operator.py`,
`dealer.py` and `patient.py` the state machines, `compiler.py` the way from a network to a program.

Not here: processes, connections and files (`adapters`), the page on the phone (`web`).
"""
