# SPDX-License-Identifier: Apache-2.0
"""Run folders as one page that explains itself; reads files, needs no torch."""

from iclmsr.report.page import write_report
from iclmsr.report.status import Status, find_runs, status

__all__ = ["Status", "find_runs", "status", "write_report"]
