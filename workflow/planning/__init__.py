# SPDX-License-Identifier: Apache-2.0
"""What a benchmark needs before anything runs: GPUs, memory, time, disk, data and weights. Imports no torch."""
