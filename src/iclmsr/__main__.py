# SPDX-License-Identifier: Apache-2.0
"""``python -m iclmsr`` is ``iclmsr``."""

import sys

from iclmsr.cli import main

sys.exit(main())
