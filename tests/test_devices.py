# SPDX-License-Identifier: Apache-2.0
"""How a process holds its memory."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from iclmsr.devices import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        for mebi in (3, 9, 40):
            made = torch.ones(2**20 * mebi // 4)
            del made
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
keep_freed_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's memory")
def test_the_pages_of_freed_tensors_are_not_asked_for_anew():
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True)
    before, after = map(int, found.stdout.split())
    assert before > 20 * 40 / 2 / 2  # half of the largest one in every round, in pages of 2 MiB
    assert after < before / 10
