"""A disk that fails when it is told to: the calls by which our files reach it, each of which can be made to fail.

Where the machine allows it, the disk is really full: a small file system of its own, or a limit on the size of files.
"""

import contextlib
import os
import resource
import subprocess
import tempfile
import threading

KINDS = ("open", "write", "fsync", "rename", "mkdir")


class FaultyDisk:
    """The calls on files under a folder, counted; they fail as :meth:`fail` says, until :meth:`heal`."""

    def __init__(self, monkeypatch, folder, *, watch=None):
        self.folder = os.path.realpath(folder)
        self.counts = dict.fromkeys(KINDS, 0)
        self.hits = 0
        self.watch = watch
        self._plan = None
        self._dead = False
        self._lock = threading.Lock()
        self._watching = threading.local()
        for name, kind, wrap in (
            ("open", "open", self._on_open),
            ("write", "write", self._on_descriptor),
            ("fsync", "fsync", self._on_descriptor),
            ("rename", "rename", self._on_path),
            ("replace", "rename", self._on_path),
            ("mkdir", "mkdir", self._on_path),
            ("unlink", "remove", self._on_path),
            ("rmdir", "remove", self._on_path),
        ):
            monkeypatch.setattr(os, name, wrap(kind, getattr(os, name)))

    def fail(self, kind, number, code, *, dead=False):
        """The call of a kind with this number, from 0, fails; with ``dead`` every later one of any kind, too."""
        self.counts = dict.fromkeys(KINDS, 0)
        self.hits = 0
        self._plan = (kind, number, code, dead)
        self._dead = False

    def heal(self):
        self._plan, self._dead = None, False

    def _before(self, kind, path):
        if not os.path.realpath(path).startswith(self.folder):
            return
        self._look()
        with self._lock:
            number = self.counts.get(kind, 0)
            if kind in self.counts:
                self.counts[kind] += 1
            if self._plan is None:
                return
            wanted, at, code, dead = self._plan
            hit = self._dead or (kind == wanted and number == at)
            self._dead = self._dead or (hit and dead)
            self.hits += hit
        if hit:
            raise OSError(code, os.strerror(code), str(path))

    def _look(self):
        """What a reader would see at this moment."""
        if self.watch is not None and not getattr(self._watching, "now", False):
            self._watching.now = True
            try:
                self.watch()
            finally:
                self._watching.now = False

    def _on_open(self, kind, real):
        def call(path, flags, *arguments, **keywords):
            if flags & os.O_CREAT and not getattr(self._watching, "now", False):
                self._before(kind, path)
            return real(path, flags, *arguments, **keywords)

        return call

    def _on_descriptor(self, kind, real):
        def call(descriptor, *arguments):
            path = _path_of(descriptor)
            if path is not None:
                self._before(kind, path)
            return real(descriptor, *arguments)

        return call

    def _on_path(self, kind, real):
        def call(path, *arguments, **keywords):
            relative = keywords.get("dir_fd") is not None
            if relative and self._dead:  # shutil.rmtree's
                raise OSError(self._plan[2], os.strerror(self._plan[2]), str(path))
            if not relative and not (kind == "mkdir" and os.path.isdir(path)):  # which is no change
                self._before(kind, path)
            return real(path, *arguments, **keywords)

        return call


def _path_of(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return None


class SmallDisk:
    """A file system of its own, of which :meth:`fill` takes the rest."""

    def __init__(self, folder, size=4 << 20):
        self.folder = folder / "disk"
        self.folder.mkdir()
        self._ballast = self.folder / "ballast"
        _mount(self.folder, str(size))

    def fill(self):
        with open(self._ballast, "wb", buffering=0) as file:
            for piece in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * piece):
                        pass

    def clear(self):
        self._ballast.unlink(missing_ok=True)

    def close(self):
        _unmount(self.folder)


class ShortFiles:
    """No file of this process may grow while it is :meth:`fill`-ed (RLIMIT_FSIZE), which needs no rights."""

    def __init__(self, folder):
        self.folder = folder / "disk"
        self.folder.mkdir()
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, self._before[1]))

    def clear(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)

    def close(self):
        self.clear()


def may_mount():
    """Whether this process may make a file system."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _mount(folder, "64k")
        except (OSError, subprocess.CalledProcessError):
            return False
        _unmount(folder)
        return True


def _mount(folder, size):
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "thalweg-test", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def _unmount(folder):
    subprocess.run(["umount", str(folder)], check=True, capture_output=True)


REALLY_FULL = {"short files": ShortFiles} | ({"small disk": SmallDisk} if may_mount() else {})
