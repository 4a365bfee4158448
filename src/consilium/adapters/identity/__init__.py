# SPDX-License-Identifier: Apache-2.0
"""Who somebody is: passwords, sessions, one-time links, login limits, tokens, signatures.

What somebody may do is not here: that is `governance.access`. No account, password or key of
this package exists before a person makes it; there is no default of any.
"""
