# SPDX-License-Identifier: Apache-2.0
"""Metrics: mathematics on features and images, which know no model and no data set."""
