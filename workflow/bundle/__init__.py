# SPDX-License-Identifier: Apache-2.0
"""A benchmark's results as one RO-Crate, which says where each file comes from and how it was made.

Paths in a bundle are those of the checkout: ``config/`` with the benchmark and its entries, ``results/<benchmark>/``.
"""
