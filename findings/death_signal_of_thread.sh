#!/usr/bin/env bash
# PR_SET_PDEATHSIG kills a child process although its parent lives: it is sent when the thread that started the child ends.
#
# Guess: `prctl(PR_SET_PDEATHSIG, SIGTERM)` in a child ends it when its parent process dies, so that no server or helper is left
#     behind. Where in the parent it is started does not matter.
# Behaviour: for the kernel, the parent is the thread that called fork. A child that a thread starts gets the signal as soon as this
#     thread has ended, while the process, its other threads and the Popen object go on. So it is with a thread that starts a
#     server anew, and with a pool of threads: the child lives exactly as long as its worker thread. The same code in the main
#     thread works. The child's exit looks as if another program had stopped it.
# Versions: Linux 6.18; Python 3.11 and later. The script needs no package.
# Date: 2026-11-29.
# Source: PR_SET_PDEATHSIG(2const), CAVEATS; Linux, kernel/exit.c, forget_original_parent, which runs for each thread.
# Covered by: deployments/server/kept_process.py, whose thread starts the process again and waits for it until the block ends;
#     tests/deployments/server/test_kept_process.py.
set -euo pipefail

python3 - <<'PYTHON'
import ctypes
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

PR_SET_PDEATHSIG = 1
library = ctypes.CDLL(None)


def start():
    die_with_parent = lambda: library.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    return subprocess.Popen(["sleep", "120"], preexec_fn=die_with_parent)


def is_running(child):
    try:
        child.wait(timeout=3)
    except subprocess.TimeoutExpired:
        return True
    return False


of_main = start()
of_thread = []
thread = threading.Thread(target=lambda: of_thread.append(start()))
thread.start()
thread.join()
with ThreadPoolExecutor(1) as pool:
    of_pool = pool.submit(start).result()
    was_running = is_running(of_pool)
print("the process", os.getpid(), "lives")
codes = [of_thread[0].wait(60), of_pool.wait(60)]
print("a child of a thread that has ended: exit code", codes[0])
print("a child of a pool's thread runs while the pool is open:", was_running, "- after that: exit code", codes[1])
lives = is_running(of_main)
print("a child of the main thread runs:", lives)
of_main.kill()
of_main.wait()
assert codes == [-signal.SIGTERM, -signal.SIGTERM] and was_running and lives
PYTHON
