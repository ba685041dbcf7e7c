# SPDX-License-Identifier: Apache-2.0
"""Why a backend's speed cannot be had, or does not count."""

from __future__ import annotations


class BackendError(RuntimeError):
    """A backend is not installed, or has not got the precision; says what to do. So it is for every model."""


class UnequalOutputs(RuntimeError):
    """An optimised model does not compute what the eager one does, so its speed means nothing."""
