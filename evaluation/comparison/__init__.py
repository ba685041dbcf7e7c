# SPDX-License-Identifier: Apache-2.0
"""``dcae compare``: autoencoders on a user's own pictures, with tables, the worst images, and a page of both."""
