"""What a process asks the system for."""

import subprocess
import sys

import pytest

# Writes to 64 MB again and again; prints how often the system had to find a page for it.
PROGRAM = """
import ctypes, resource, sys
from utils.resources import keep_freed_memory
done = keep_freed_memory(sys.argv[1] == "keep")
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def use():
    block = libc.malloc(2**26)
    ctypes.memset(block, 1, 2**26)
    libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    use()
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
def test_freed_memory_is_used_again():
    printed = [
        subprocess.run([sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, check=True).stdout.split()
        for word in ("keep", "give")
    ]
    if printed[0][0] == "False":
        pytest.skip("another C library than glibc")
    kept, given = (int(faults) for _, faults in printed)
    assert kept < 100 < given
