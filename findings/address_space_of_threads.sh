#!/usr/bin/env bash
# A limit of the address space (RLIMIT_AS, `ulimit -v`) counts 64 MiB for each thread that ever allocated, however little it uses.
#
# Guess: with a limit of 1 GiB a process can allocate nearly 1 GiB, and a decoder that fits on one machine fits on each other one of
#     the same system. Threads cost their stacks, 8 MiB at most, and those that have ended cost nothing.
# Behaviour: glibc gives a new thread an area of its own for malloc, an arena, and reserves 64 MiB of addresses for it at its first
#     allocation, of which one page is used. An arena outlives its thread. There are up to eight for each processor, so a
#     library that starts a thread for each processor takes 2 GiB of a limit on 32 of them, and none worth naming on 2. A large
#     allocation then fails ("out of memory") in a process that uses 13 MiB. No tool that shows resident memory explains it.
#     With MALLOC_ARENA_MAX=2 it fits; RLIMIT_DATA, which counts what may be written, does not count reservations.
# Versions: glibc 2.36, Linux 6.18. The script needs no package.
# Date: 2026-11-29.
# Source: glibc, malloc/arena.c, HEAP_MAX_SIZE and arena_get2; mallopt(3), M_ARENA_MAX; setrlimit(2), RLIMIT_AS and RLIMIT_DATA.
# Covered by: flows/imaging/isolation/worker.py, `_MALLOC`, for the processes that worker_process.py limits;
#     tests/flows/imaging/test_image_isolation.py, "an image process has few arenas and no password in its environment".
set -euo pipefail

measure() { # measure LIMIT THREADS: whether 600 MiB fit into a limit of 1 GiB after that many threads have allocated 100 bytes.
    python3 - "$@" <<'PYTHON'
import ctypes
import resource
import sys
import threading

limit, count = sys.argv[1], int(sys.argv[2])
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
resource.setrlimit(getattr(resource, limit), (1 << 30, 1 << 30))
together = threading.Barrier(count + 1)


def allocate():
    libc.malloc(100)
    together.wait()


threads = [threading.Thread(target=allocate) for _ in range(count)]
for thread in threads:
    thread.start()
together.wait()
for thread in threads:
    thread.join()
try:
    bytearray(600 << 20)
except MemoryError:
    print("no")
else:
    print("yes")
PYTHON
}

unset MALLOC_ARENA_MAX
one=$(measure RLIMIT_AS 1)
eight=$(measure RLIMIT_AS 8)
few_arenas=$(MALLOC_ARENA_MAX=2 measure RLIMIT_AS 8)
data=$(measure RLIMIT_DATA 8)
echo "600 MiB fit into 1 GiB of address space after one thread: $one"
echo "after eight threads: $eight; with two arenas: $few_arenas"
echo "600 MiB fit into 1 GiB of data after eight threads: $data"
[ "$one $eight $few_arenas $data" = "yes no yes yes" ]
