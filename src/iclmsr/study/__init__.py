# SPDX-License-Identifier: Apache-2.0
"""The background study: how much an encoder leans on background, and what MSR changes."""
