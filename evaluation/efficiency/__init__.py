# SPDX-License-Identifier: Apache-2.0
"""Speed, memory and size of diffusion models and autoencoders, from shapes alone: no weights, no data."""
