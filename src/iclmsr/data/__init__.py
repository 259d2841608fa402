# SPDX-License-Identifier: Apache-2.0
"""Images in memory, the readers that fetch them, and the views that training sees."""
