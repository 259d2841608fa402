# SPDX-License-Identifier: Apache-2.0
"""Files that grow by a line."""

import json
import os
from pathlib import Path
from typing import Any

from iclmsr.errors import IclmsrError


class Journal:
    """A file that grows by one JSON object a line.

    Attributes:
        path: The file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, **record: Any) -> None:
        """Appends one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def size(self) -> int:
        """Bytes in the file."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Takes back the lines added after the file had ``size`` bytes."""
        if self.size() > size:
            os.truncate(self.path, size)

    def records(self) -> list[dict[str, Any]]:
        """Every line, oldest first, without a last one that is still being written.

        Raises:
            IclmsrError: A line is not JSON.
        """
        if not self.path.exists():
            return []
        whole, _, _ = self.path.read_bytes().rpartition(b"\n")
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise IclmsrError(f"{self.path} is not JSON, line by line: {error}") from error
