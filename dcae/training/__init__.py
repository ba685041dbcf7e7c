# SPDX-License-Identifier: Apache-2.0
"""How autoencoders and diffusion models are trained: one loop that resumes exactly, and the tasks it runs."""
