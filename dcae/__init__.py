# SPDX-License-Identifier: Apache-2.0
"""What is benchmarked: autoencoders, diffusion models, data, and how they are trained."""

__version__ = "0.1.0"

OWN_PACKAGES = ("dcae", "evaluation", "workflow")
"""The packages of this project."""
