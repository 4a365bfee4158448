# SPDX-License-Identifier: Apache-2.0
"""Models, tasks, the arithmetic of a training step and its metrics, as values without effects.

A network lives in `models`; everything that a round does to it happens on one flat float32
vector (`parameters`, `optimisers`, `averaging`). Nothing here draws privacy noise, charges a
budget or opens a file.
"""
