# SPDX-License-Identifier: Apache-2.0
"""Metrics: mathematics on features and images, and the registry of all metrics."""
