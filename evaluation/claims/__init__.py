# SPDX-License-Identifier: Apache-2.0
"""The paper's claims, tested by the records of a benchmark."""
