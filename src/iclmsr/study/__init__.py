# SPDX-License-Identifier: Apache-2.0
"""How much an encoder leans on background, and what changes it."""
