"""Clusters that can be hurt: scheduler and workers in processes of their own, certificates, lines that can be cut."""

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time

HARD_LIMIT = 100.0  # s: what takes longer is a standstill


class Cluster:
    """A scheduler and workers in processes of their own, as on a real cluster; no nanny brings a worker back.

    Args:
        folder: for logs and files.
        tls: certificates; see :class:`Certificates`.
    """

    def __init__(self, folder, *, tls=None):
        self._folder = folder
        self._tls = tls.options if tls is not None else []
        self.workers, self.lines = [], []
        self._file = folder / f"scheduler-{time.monotonic_ns()}.json"
        self.scheduler = self._start(
            "distributed.cli.dask_scheduler",
            *("--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
            *("--scheduler-file", str(self._file)),
            *(["--protocol", "tls"] if tls is not None else []),
        )
        wait_for(lambda: self._file.exists() and self._file.stat().st_size)
        self.address = json.loads(self._file.read_text())["address"]

    def add_worker(self, scheduler=None, where=("--host", "127.0.0.1")):
        """Start a worker; returns its process."""
        worker = self._start(
            "distributed.cli.dask_worker",
            *(scheduler or self.address, *where, "--nthreads", "1", "--no-nanny", "--no-dashboard"),
            *("--local-directory", str(self._folder)),
        )
        self.workers.append(worker)
        return worker

    def add_worker_with_a_line(self):
        """Start a worker that reaches the others, and is reached, through two lines; returns what cuts them."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        out, back = Line(int(self.address.rpartition(":")[2])), Line(port)
        self.lines += [out, back]
        where = ("--listen-address", f"tcp://127.0.0.1:{port}", "--contact-address", back.address)
        worker = self.add_worker(out.address, where)

        def cut():
            out.cut()
            back.cut()

        return worker, cut

    def close(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        for line in self.lines:
            line.close()

    def _start(self, module, *arguments):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        with open(self._folder / f"log-{time.monotonic_ns()}", "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments, *self._tls],
                stdout=log,
                stderr=log,
                env=environment,
            )


class Line:
    """Passes on what comes to a port of this machine, until it is cut: then nothing arrives, and nothing is closed.

    That is what a cable does that was pulled out: neither side is told.
    """

    def __init__(self, port):
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setblocking(False)
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ, None)
        self._open = []
        self._is_cut = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def cut(self):
        self._is_cut.set()

    def close(self):
        self._closed.set()
        self._thread.join(10)
        for end in (self._server, *self._open):
            end.close()
        self._selector.close()

    def _pass_on(self):
        while not self._closed.is_set():
            if self._is_cut.is_set():  # what arrives stays in the sockets' buffers
                self._closed.wait(0.05)
                continue
            for key, _ in self._selector.select(0.05):
                if self._is_cut.is_set():
                    break
                if key.data is None:
                    self._connect()
                else:
                    self._copy(key.fileobj, key.data)

    def _connect(self):
        try:
            here, _ = self._server.accept()
        except OSError:  # whoever called has hung up
            return
        here.setblocking(True)
        there = socket.socket()
        self._open += [here, there]
        try:
            there.connect(("127.0.0.1", self._target))
        except OSError:
            here.close()
            return
        for one, other in ((here, there), (there, here)):
            self._selector.register(one, selectors.EVENT_READ, other)

    def _copy(self, source, target):
        try:
            data = source.recv(1 << 16)
            if data:
                target.sendall(data)
                return
        except OSError:
            pass
        for end in (source, target):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(end)
            end.close()


class Certificates:
    """An authority and a certificate of it, for scheduler, workers and client alike (made with openssl)."""

    def __init__(self, folder):
        folder.mkdir()
        self.ca, self.cert, self.key = (str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem"))
        ca_key, request = str(folder / "ca-key.pem"), str(folder / "request.pem")
        new = ("-newkey", "rsa:2048", "-nodes", "-batch")
        _openssl("req", "-x509", *new, "-subj", f"/CN={folder.name}", "-days", "2", "-keyout", ca_key, "-out", self.ca)
        _openssl("req", *new, "-subj", "/CN=localhost", "-keyout", self.key, "-out", request)
        signing = ("-CA", self.ca, "-CAkey", ca_key, "-set_serial", "2", "-days", "2")
        _openssl("x509", "-req", "-in", request, *signing, "-out", self.cert)
        self.options = ["--tls-ca-file", self.ca, "--tls-cert", self.cert, "--tls-key", self.key]
        self.arguments = {"ca_file": self.ca, "cert_file": self.cert, "key_file": self.key}


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def wait_for(what, timeout=HARD_LIMIT):
    """Wait until ``what()`` is true, and return it."""
    end = time.monotonic() + timeout
    while not (found := what()):
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.02)
    return found
