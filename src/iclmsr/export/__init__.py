# SPDX-License-Identifier: Apache-2.0
"""An encoder for the tools of others, tried out in them before it is handed on."""

from iclmsr.export.folder import FORMATS, Exported, export

__all__ = ["FORMATS", "Exported", "export"]
