# SPDX-License-Identifier: Apache-2.0
"""How the benchmark is run: the Snakemake rules and the ``dcae`` command line."""
