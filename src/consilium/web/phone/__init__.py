# SPDX-License-Identifier: Apache-2.0
"""The page that looks at a picture on the phone itself: its files, and a server for them."""
