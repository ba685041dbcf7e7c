# SPDX-License-Identifier: Apache-2.0
"""Feature networks, their extraction, and the features of real images."""
