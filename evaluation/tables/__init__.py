# SPDX-License-Identifier: Apache-2.0
"""Tables: the paper's rebuilt from records, the ablations by study, and the choices of every entry."""
