# SPDX-License-Identifier: Apache-2.0
"""The structural causal model, the back-door criterion and the back-door adjustment (Eq. 1)."""

from iclmsr.causal.discrete import DiscreteModel, backdoor_adjustment, estimate_backdoor
from iclmsr.causal.graph import ANCHOR, INSTANCE_DISCRIMINATION, POSITIVE, SEMANTICS, CausalGraph
from iclmsr.causal.picture import describe, draw

__all__ = [
    "ANCHOR",
    "INSTANCE_DISCRIMINATION",
    "POSITIVE",
    "SEMANTICS",
    "CausalGraph",
    "DiscreteModel",
    "backdoor_adjustment",
    "describe",
    "draw",
    "estimate_backdoor",
]
