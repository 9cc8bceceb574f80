#!/usr/bin/env bash
# On Linux a new program begins with the peak memory of the process that started it, as `getrusage` and GNU time report it.
#
# Guess: `ru_maxrss` of RUSAGE_SELF is the most memory that this process has had. A program that is started anew by subprocess
#     begins at zero: exec gives it a memory of its own. So a measurement in a fresh process is clean.
# Behaviour: exec keeps the highest value so far, and the child that calls exec has, until then, the memory of its parent. A
#     Python of 10 MB reports 200 MB if its parent once had them, also if the parent gave them back before. The same holds
#     for `wait4` and RUSAGE_CHILDREN, by which the parent measures the child. VmHWM in /proc/self/status belongs to the memory
#     itself, and is right. So is getrusage if a small program in between, such as a shell, forks once more.
# Versions: Linux 6.18; Python 3.11 and later. The script needs no package.
# Date: 2026-11-29.
# Source: Linux, fs/exec.c, exec_mmap: `setmax_mm_hiwater_rss(&tsk->signal->maxrss, old_mm)`; kernel/sys.c, getrusage.
# Covered by: benchmarks/task_memory.py, benchmarks/reconciliation.py and benchmarks/one_upkeep.py, which read VmHWM.
set -euo pipefail

python3 - <<'PYTHON'
import os
import subprocess
import sys

LOOK = """
import resource
[high] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, high)
"""


def peaks(*before):
    """The peaks in MB that a new Python reports of itself: by getrusage, and by VmHWM."""
    found = subprocess.run([*before, sys.executable, "-c", LOOK], stdout=subprocess.PIPE, check=True).stdout.split()
    return [int(value) // 1024 for value in found]


def waited():
    """The peak in MB of a new Python that does nothing, as its parent measures it."""
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], os.environ)
    return os.wait4(child, 0)[2].ru_maxrss // 1024


small = peaks()
held = bytearray(b"x") * (200 << 20)
while_held = peaks()
del held
afterwards, by_shell, by_parent = peaks(), peaks("/bin/sh", "-c", '"$@"; exit', "sh"), waited()
print(f"started by a small process: getrusage {small[0]} MB, VmHWM {small[1]} MB")
print(f"while its parent holds 200 MB: getrusage {while_held[0]} MB, VmHWM {while_held[1]} MB")
print(f"after the parent gave them back: getrusage {afterwards[0]} MB, VmHWM {afterwards[1]} MB; wait4 in the parent: {by_parent} MB")
print(f"with a shell in between: getrusage {by_shell[0]} MB, VmHWM {by_shell[1]} MB")
assert small[0] < 100
for report, own in (while_held, afterwards):
    assert report >= 200 and own < 100
assert by_parent >= 200 and max(by_shell) < 100
PYTHON
