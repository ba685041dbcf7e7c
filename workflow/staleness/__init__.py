# SPDX-License-Identifier: Apache-2.0
"""When a job runs again: results versions, digests of the configuration, and identities of cached folders."""
