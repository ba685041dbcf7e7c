# SPDX-License-Identifier: Apache-2.0
"""What users wait for, and how fast the models are: ``make bench``."""
