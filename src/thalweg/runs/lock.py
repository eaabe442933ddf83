"""Who writes a run: the kernel's lock on one file, and in the file the process that took it.

The kernel ends the lock when the process ends, whatever ended it. Only of a process that was killed a copy keeps it for
longer: one that was about to become another program, for a moment; or one that goes on. Who ends in order gives it back
for the copies, too. It is a lock on the file that is open, wherever that is moved: whether it still is the one of that
name is asked before each write.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from thalweg.errors import RunError

PATIENCE = 10.0
"""s: so long a lock is waited for whose process is gone."""

_OWNER = re.compile(r"process ([0-9]{1,9}) on (\S+),")


class WriterLock:
    """The lock of a run.

    Args:
        file: the file; its folder is the run's.

    Example:
        >>> from pathlib import Path
        >>> from thalweg.runs.lock import WriterLock
        >>> WriterLock(Path("no-such-run/run.lock")).is_held()
        False
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._held: tuple[int, int, int] | None = None  # descriptor, device and inode

    def is_held(self) -> bool | None:
        """Whether somebody holds it; None where the file system, or who may read the file, cannot say."""
        try:
            descriptor = os.open(self.file, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for somebody who writes
        except PermissionError:
            return None
        except (OSError, ValueError):
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return False

    def is_elsewhere(self) -> bool:
        """Whether the process that took it last is, or was, on another machine."""
        found = _OWNER.match(self._who())
        return found is not None and found[2] != socket.gethostname()

    def refuse_if_held(self) -> None:
        """Raise if the process that writes lives; wait for a lock that outlives it for a moment.

        Raises:
            RunError: it does; the message says which one.
        """
        end = time.monotonic() + PATIENCE
        while self.is_held():
            if time.monotonic() > end or not self._is_orphaned():
                raise self._in_use()
            time.sleep(0.01)

    def take(self, owner: Any, *, new: bool) -> weakref.finalize[[int, int], Any]:
        """Hold it until what is returned is called, or until the owner or the process ends.

        Args:
            owner: an object.
            new: the file may not be there yet.

        Raises:
            RunError: somebody else holds it.
            OSError: the file cannot be made or written.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | (os.O_EXCL if new else 0)
        descriptor = os.open(self.file, flags, 0o666)  # Python closes it at an exec
        release = weakref.finalize(owner, _give_back, descriptor, os.getpid())
        end = time.monotonic() + 1.0
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    release()
                    raise self._in_use() from None
                time.sleep(0.01)  # somebody is asking whether we live
            except OSError:
                break  # no locks on this file system: a run is worth more
            else:
                break
        who = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S %z')}"
        try:
            status = os.fstat(descriptor)
            self._held = descriptor, status.st_dev, status.st_ino
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{who}\n".encode(), 0)
        except BaseException:
            release()  # who may not say that it writes does not
            raise
        return release

    def refuse_if_moved(self) -> None:
        """Raise if the file that this object has taken has another name now; as long as it is held.

        Raises:
            RunError: its folder was moved, which the message says where to, removed or replaced.
        """
        if self._held is None:
            return
        descriptor, *taken = self._held
        try:
            there = os.stat(self.file)
            if [there.st_dev, there.st_ino] == taken:
                return
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:  # a server that does not answer has moved nothing
            return
        folder, now = self.file.parent, ""
        with suppress(OSError):
            now = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.exists(now):
            place = Path(now).parent
            raise RunError(
                f"The folder {folder} was moved to {place} while the run wrote to it, and nothing is written where it "
                f"was. Go on with: thalweg resume {place}"
            )
        raise RunError(
            f"The folder {folder} was removed or replaced while the run wrote to it (its {self.file.name} is another "
            "file, or none), and nothing is written over what is there now. A copy goes on: thalweg resume COPY"
        )

    def _who(self) -> str:
        try:
            descriptor = os.open(self.file, os.O_RDONLY | os.O_NONBLOCK)
        except (OSError, ValueError):
            return ""
        with os.fdopen(descriptor, "rb") as file:
            return (file.read(400) or b"").decode(errors="replace").strip()

    def _is_orphaned(self) -> bool:
        """Whether the process that took the lock is gone, and a copy of it holds it."""
        found = _OWNER.match(self._who())
        if not found or found[2] != socket.gethostname():
            return False
        try:
            os.kill(int(found[1]), 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    def _in_use(self) -> RunError:
        who = self._who()
        if self._is_orphaned():
            return RunError(
                f"The run in {self.file.parent} was written by {who}. That process is gone, and one that it started "
                "still holds the lock of the run. End that one."
            )
        return RunError(
            f"The run in {self.file.parent} is going on{f': {who}' if who else ''}. A run has one writer; wait until "
            "it has ended, or stop it (Ctrl-C, or SIGINT to that process)."
        )


def _give_back(descriptor: int, taker: int) -> None:
    """Unlock and close. Closing alone would leave it to the processes that were forked meanwhile."""
    if os.getpid() == taker:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
