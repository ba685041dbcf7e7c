# SPDX-License-Identifier: Apache-2.0
"""The sub-commands of ``dcae``, one module per subject; each imports heavy libraries only when it runs."""
