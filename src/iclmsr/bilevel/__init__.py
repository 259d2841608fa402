# SPDX-License-Identifier: Apache-2.0
"""Meta-gradients of a bilevel problem with one virtual inner step (Eq. 5), exact and fast.

Two parameter sets: theta (the networks) takes steps on an inner loss L(theta, psi); psi (the
regularizer) is judged by an outer loss after one such step:

    theta'(psi) = step(theta, grad_theta L(theta, psi))
    wanted:       d/dpsi [ outer(theta'(psi)) + direct(psi) ]

Nothing here knows a model, a method or a regularizer: they come in as functions.
"""

from iclmsr.bilevel.engines import (
    ENGINES,
    Engine,
    Known,
    MetaGradient,
    Ranks,
    automatic,
    cosine,
    meta_gradient,
)
from iclmsr.bilevel.functional import Theta, parameters_of, stateless
from iclmsr.bilevel.steps import Step, adam, effective_direction, lars, sgd, step_of

__all__ = [
    "ENGINES",
    "Engine",
    "Known",
    "MetaGradient",
    "Ranks",
    "Step",
    "Theta",
    "adam",
    "automatic",
    "cosine",
    "effective_direction",
    "lars",
    "meta_gradient",
    "parameters_of",
    "sgd",
    "stateless",
    "step_of",
]
