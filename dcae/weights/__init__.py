# SPDX-License-Identifier: Apache-2.0
"""Weight files: the catalogue with their sha256, files of a hub, and pinning of released entries."""
