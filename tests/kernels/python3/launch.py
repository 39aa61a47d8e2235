"""Be the process that Jupyter knows of a kernel forked by `serve.py`: pass signals on, end with it.

Without `site`: it loads nothing but what it needs, and is there in hundredths of a second.
"""

import json
import os
import signal
import socket
import sys

if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(os.environ["WARM_KERNELS"])
        asked = {"argv": sys.argv[1:], "environ": dict(os.environ), "cwd": os.getcwd()}
        socket.send_fds(line, [json.dumps(asked).encode() + b"\n"], [0, 1, 2])
        kernel = int(line.recv(32))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(kernel, number))
        line.recv(1)
