# SPDX-License-Identifier: Apache-2.0
"""The contrastive methods, one file each; ``MethodConfig`` is the union of their configs."""

from collections.abc import Callable
from typing import get_args

from iclmsr.methods.barlow_twins import BarlowTwinsConfig
from iclmsr.methods.byol import BYOLConfig
from iclmsr.methods.dino import DINOConfig
from iclmsr.methods.lmcl import LMCLConfig
from iclmsr.methods.moco_v3 import MoCoV3Config
from iclmsr.methods.relic import RELICConfig
from iclmsr.methods.ressl import ReSSLConfig
from iclmsr.methods.simclr import SimCLRConfig
from iclmsr.methods.simsiam import SimSiamConfig
from iclmsr.methods.ssl_hsic import SSLHSICConfig
from iclmsr.methods.vicreg import VICRegConfig
from iclmsr.methods.w_mse import WMSEConfig

MethodConfig = (
    SimCLRConfig
    | BYOLConfig
    | WMSEConfig
    | ReSSLConfig
    | LMCLConfig
    | SSLHSICConfig
    | RELICConfig
    | MoCoV3Config
    | BarlowTwinsConfig
    | VICRegConfig
    | SimSiamConfig
    | DINOConfig
)

METHODS: dict[str, Callable[..., MethodConfig]] = {
    config().name: config for config in get_args(MethodConfig)
}
"""The configs by their method's name."""
