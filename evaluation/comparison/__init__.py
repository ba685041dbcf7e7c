# SPDX-License-Identifier: Apache-2.0
"""A user's own pictures through several autoencoders: a table, the worst images side by side, and a page of both."""
