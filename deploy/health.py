# SPDX-License-Identifier: Apache-2.0
"""Ends with 0 if the party in this container serves its numbers, and its run has not died."""

import sys
import urllib.request

with urllib.request.urlopen("http://127.0.0.1:9464/metrics", timeout=5) as reply:
    lines = reply.read().decode().splitlines()
sys.exit('consilium_run_standing{is="died"} 0.0' not in lines)
