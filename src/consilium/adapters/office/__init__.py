# SPDX-License-Identifier: Apache-2.0
"""What an office does when it is asked: decide, act, log, in one transaction.

Pages, API, command line and courier call these services and nothing below them.
"""
