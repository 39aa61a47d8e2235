"""Fork kernels from a process that has imported what notebooks import, but nothing of the project.

Each is a whole ipykernel with the folder, the environment and the output of who asked for it. Only
its first second is not its own, which was a quarter of what the whole runs of the tests took.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from importlib import import_module

IMPORTED = (
    "ipykernel.kernelapp",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.pyplot",
    "pandas.io.formats.style",
    "pyarrow.parquet",
    "scipy.stats",
    "torch",
)


def serve(address: str, imported: Sequence[str] = IMPORTED) -> None:
    """Fork a kernel for each connection, which is the kernel's from then on, until stdin ends."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        for name in imported:
            import_module(name)
        gc.freeze()
        # pyarrow's allocator has a thread, which knows of forks; Python from 3.12 on warns of any.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        # Nobody waits for the kernels: who asked for one knows of its end by the connection's.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while door in select.select([door, sys.stdin], [], [])[0]:
            line, _ = door.accept()
            if os.fork() == 0:
                door.close()
                be_kernel(line)
            line.close()


def be_kernel(line: socket.socket) -> None:
    """Be what ``python -m ipykernel_launcher`` would be in the place of who asked."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    text, given = b"", []
    while not text.endswith(b"\n"):
        part, files, *_ = socket.recv_fds(line, 1 << 20, 3)
        text, given = text + part, given + files
    asked = json.loads(text)
    for number, file in enumerate(given):
        os.dup2(file, number)
        os.close(file)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environ"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    tempfile.tempdir = None
    line.send(str(os.getpid()).encode())
    threading.Thread(target=end_with, args=[line], daemon=True).start()
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance(["-f", *asked["argv"]])
    sys.exit()


def end_with(line: socket.socket) -> None:
    """Kill this kernel and its processes, as who asked for it was killed."""
    line.recv(1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    del sys.path[0]
    serve(sys.argv[1])
