# SPDX-License-Identifier: Apache-2.0
"""What a hospital decides, as values and pure rules: who may do what, its price, its proof.

Not here: tables and transactions (`adapters.store`), sign-in (`adapters.identity`), pages (`web`).
"""
