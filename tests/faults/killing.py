"""Processes that are to be killed: modules of this folder, which say that they are ready and wait until they may go."""

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(module, *arguments):
    """A process of ``tests.faults.<module>`` that has begun."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    process.stdin.write(b"\n")
    process.stdin.flush()
    return process


def kill(process):
    """Kill it; whether it had not ended before."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()
    return process.returncode == -signal.SIGKILL
