# SPDX-License-Identifier: Apache-2.0
"""Quality of reconstructions and of samples, measured in one pass over the images."""
