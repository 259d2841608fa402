# SPDX-License-Identifier: Apache-2.0
"""The contrastive methods, one file each; ``MethodConfig`` is the union of their configs."""

from iclmsr.methods.simclr import SimCLRConfig

MethodConfig = SimCLRConfig
