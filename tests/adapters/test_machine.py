# SPDX-License-Identifier: Apache-2.0
"""Tests of what our programs ask of their process, each in a process of its own."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from consilium.adapters.machine import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
import numpy as np

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

np.ones(1 << 23)
before = faults()
for _ in range(10):
    np.ones(1 << 23)
print(faults() - before)
"""


def faults_of(memory: str) -> int:
    """Fresh pages of ten arrays of 64 MiB, one after the other."""
    command = [sys.executable, "-c", PROGRAM, memory]
    found = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc knows of it")
def test_freed_memory_is_used_again() -> None:
    assert faults_of("kept") < 100 < faults_of("fresh")
