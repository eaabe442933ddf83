"""A cluster: Dask's `distributed`, an existing scheduler or worker processes of this machine.

The same sums to the same bits as the thread pool's, since the tree is the same; who computes what, and how often a
worker dies, does not matter. Dask sends pickles between its processes and executes what they say, so everybody who can
reach scheduler or workers can do as they like with them: docs/cluster.md.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any, NoReturn

from thalweg.errors import MissingExtraError, RunError
from thalweg.graph.finishing import to_the_end
from thalweg.runtime import onworker
from thalweg.runtime.base import Item, ItemProgress, Result
from thalweg.runtime.cluster_call import ClusterCall
from thalweg.runtime.crew import Crew
from thalweg.runtime.local import Local, _finish, _usable_cores
from thalweg.runtime.packing import Packed, pack, recipe
from thalweg.runtime.tree import Kept, begin_reduction

CONNECTING = 20.0  # s
CLOSING = 20.0  # s; a worker that does not answer is killed after four


class Dask:
    """Runs tasks on the workers of a Dask cluster, or in worker processes of this machine.

    Args:
        scheduler: the address of an existing scheduler, ``"tcp://host:8786"`` or ``"tls://..."``.
        workers: without ``scheduler``, how many processes to start here; by default one for each core. They listen on
            127.0.0.1 only, work on one item at a time, and end with this object.
        ca_file, cert_file, key_file: for ``tls://``: the authority that is trusted, and our certificate and its key.
        patience: s without a sign of life from any worker after which all count as dead. A single worker that is silent
            for half as long is given up, and its items are computed again.
        retries: how often an item that failed by an error of its own is tried again.
        note: told what a person at the terminal should know: the dashboard's address, that no worker is there yet.

    Raises:
        MissingExtraError: Dask is not installed (``pip install 'thalweg[dask]'``).
        RunError: an argument is wrong; later, when the first work comes: the scheduler cannot be reached.

    The cluster is connected to, or started, when it is first needed. Functions for :meth:`run` stay in this process.
    Ending it takes seconds; ``async with`` does not keep the event loop waiting for that.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.runtime import Dask
        >>> with Dask(workers=1) as runtime:
        ...     tw.wait(runtime.map_reduce(abs, [-3, 1, 2]))
        6
    """

    def __init__(
        self,
        scheduler: str | None = None,
        *,
        workers: int | None = None,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        patience: float = 30.0,
        retries: int = 0,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        if find_spec("distributed") is None:
            raise MissingExtraError(
                "Dask is not installed, and the runtime is one of Dask's. Install it: pip install 'thalweg[dask]'."
            )
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
            raise RunError(f"workers is {workers!r}; it must be an integer of at least 1, or None for all cores.")
        if scheduler is not None and not re.fullmatch(r"(tcp|tls|ws|wss)://\S+:\d+", scheduler):
            raise RunError(
                f"scheduler is {scheduler!r}; it must be an address as the scheduler prints it: tcp://host:port, or "
                "tls://host:port."
            )
        if scheduler is not None and workers is not None:
            raise RunError("scheduler and workers are both given; an existing cluster has the workers that it has.")
        if not patience > 0:
            raise RunError(f"patience is {patience!r}; it must be a positive number of seconds.")
        files = {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}
        given = {name: path for name, path in files.items() if path}
        if given and not (len(given) == len(files) and scheduler and scheduler.startswith("tls://")):
            raise RunError(
                "TLS needs all of ca_file, cert_file and key_file, and a scheduler whose address begins with tls://."
            )
        self._address = scheduler
        self._count = workers or _usable_cores()
        self._files = given
        self._patience = float(patience)
        self.retries = retries
        self._listeners: tuple[Callable[[str], None], ...] = (note,)
        self._telling = threading.Lock()
        self._local = Local()
        self._token = secrets.token_hex(8)  # a cluster is shared, and a second client's like key would get our result
        self._generation = 0
        self._shared: OrderedDict[str, Any] = OrderedDict()
        self._connecting = threading.Lock()
        self._client: Any = None
        self._cluster: Any = None
        self._crew: Crew | None = None
        self.items_by_worker: dict[str, int] = {}

    @property
    def workers(self) -> int:
        """How many tasks run at once: the threads of all workers, as far as they are known."""
        known = self._crew.threads if self._crew is not None else 0
        return known or (self._count if self._address is None else 1)

    @property
    def scheduler(self) -> str | None:
        """The address of the existing scheduler; None where the workers are started here."""
        return self._address

    @property
    def dashboard(self) -> str | None:
        """The address of Dask's dashboard, once connected."""
        address: str | None = self._client.dashboard_link if self._client is not None else None
        return address

    def __enter__(self) -> Dask:
        self._local.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        finally:
            self._local.__exit__(kind, error, trace)

    async def __aenter__(self) -> Dask:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await to_the_end(asyncio.to_thread(self.close))
        finally:
            await self._local.__aexit__(kind, error, trace)

    @contextmanager
    def telling(self, listener: Callable[[str], None]) -> Iterator[None]:
        """Within the block, somebody else is told what ``note`` is: a run, say, which writes it into its history.

        Args:
            listener: called from any thread.
        """
        with self._telling:
            self._listeners = (*self._listeners, listener)
        try:
            yield
        finally:
            with self._telling:
                left = list(self._listeners)
                left.remove(listener)
                self._listeners = tuple(left)

    def _tell(self, text: str) -> None:
        for listener in self._listeners:
            listener(text)

    def __reduce__(self) -> NoReturn:
        """Refuse to be sent to a worker."""
        raise RunError(
            "A task refers to the runtime that it runs in, which stays in the process that made it. Hand the task what "
            "it needs only, for instance as a module-level function with functools.partial."
        )

    def close(self) -> None:
        """Let go of the cluster; one that was started here ends. The next call begins anew."""
        client, cluster = self._client, self._cluster
        lost = client is not None and client.status != "running"
        self._client = self._cluster = self._crew = None
        self._shared.clear()
        for what in (client, cluster):
            if what is not None:
                try:
                    with _without_log("distributed.client") if lost else nullcontext():
                        what.close(timeout=CLOSING)
                except (TimeoutError, OSError):  # the other side is gone already
                    what._loop_runner.stop()  # the thread, which Dask ends after a good end only
        self._local.close()

    async def start(self) -> None:
        """Connect to the cluster, or start it, now.

        Raises:
            RunError: the scheduler cannot be reached.
        """
        await self.run(self._connect)

    async def map_reduce(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        progress: ItemProgress | None = None,
        kept: Kept | None = None,
    ) -> Result:
        """The sum of ``task(item)`` over ``items``, in the fixed tree; see :meth:`Runtime.map_reduce`.

        With ``kept`` each result comes to this process, which adds them; without, workers do.

        Raises:
            RunError: the task cannot be pickled, the scheduler is lost, all workers died, an item kills its workers, or
                a worker would compute other bits than this process.
        """
        if not len(items):
            raise RunError("There is nothing to reduce: the list of items is empty; give at least one.")
        adding = await self.run(begin_reduction, len(items), kept) if kept is not None else None
        if adding is not None and not adding[1]:
            whole: Result = adding[0].result()
            return whole
        await self.start()
        crew, client = self._crew, self._client
        assert crew is not None
        packed = await self.run(pack, task)
        done: concurrent.futures.Future[tuple[Any, dict[str, int]]] = concurrent.futures.Future()
        calls: list[ClusterCall] = []

        async def work() -> None:
            try:
                keys = self._send_shared(packed)
                self._generation += 1
                order = onworker.Order(
                    f"{self._token}-{self._generation}-{packed.digest}",
                    packed.data,
                    tuple(packed.shared),
                    crew.identity,
                    len(items),
                )
                call = ClusterCall(
                    crew, order, keys, list(items), progress=progress, retries=self.retries, adding=adding
                )
                calls.append(call)
                if stopped.is_set():
                    call.stop()
                done.set_result(await call.run())
            except BaseException as error:  # carried to whoever awaits the call
                done.set_exception(error)

        stopped = threading.Event()
        loop = client.loop

        def stop() -> None:
            stopped.set()
            for call in calls:
                loop.add_callback(call.stop)

        loop.add_callback(work)
        await _finish([done], on_cancel=stop)
        value, counts = done.result()
        for name, count in counts.items():
            self.items_by_worker[name] = self.items_by_worker.get(name, 0) + count
        result: Result = value
        return result

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call one blocking function in a thread of this process; see :meth:`Runtime.run`."""
        return await self._local.run(function, *args)

    def _send_shared(self, packed: Packed) -> list[str]:
        """Have the cluster hold the shared parts of a task; returns their keys."""
        import dask

        keys = []
        for part in packed.shared.values():
            known = self._shared.get(part.key)
            if known is None or known.status not in ("pending", "finished"):
                key = f"thalweg-shared-{self._token}-{secrets.token_hex(4)}-{part.key}"
                # Not scattered: what was scattered is lost with its worker, and a task is done again.
                with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 PB"}):
                    known = self._client.submit(onworker.hold, recipe(part), key=key)
                self._shared[part.key] = known
            self._shared.move_to_end(part.key)
            keys.append(known.key)
        while len(self._shared) > max(onworker.KEPT, len(keys)):
            self._shared.popitem(last=False)[1].release()
        return keys

    def _connect(self) -> None:
        """Start or find the cluster (in a thread: it takes seconds)."""
        with self._connecting:
            if self._client is not None:
                return
            distributed: Any = import_module("distributed")
            security = self._security(distributed) if self._files else None
            cluster = self._start() if self._address is None else None
            try:
                client = distributed.Client(
                    cluster or self._address,
                    security=security,
                    set_as_default=False,
                    timeout=CONNECTING,
                    name="thalweg",
                )
            except BaseException as error:
                if cluster is not None:
                    cluster.close()
                if isinstance(error, OSError | ValueError | TypeError):
                    raise self._unreachable(error) from error
                raise
            self._client, self._cluster = client, cluster
            began = time.monotonic() if cluster is not None else None  # our own are there already
            self._crew = Crew(client, self._token, self._patience, self._tell, alive=began)
            if client.dashboard_link:
                without = "" if find_spec("bokeh") else " (it needs bokeh, which is not installed here)"
                self._tell(f"Dask's dashboard: {client.dashboard_link}{without}")

    def _security(self, distributed: Any) -> Any:
        """What proves who we are, and whom we believe; read here, so that a wrong file is named."""
        for name, path in self._files.items():
            try:
                with open(path, "rb"):
                    pass
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise RunError(f"{name}: {path!r} cannot be read: {why}.", file=path) from error
        ca, cert, key = self._files.values()
        try:
            security = distributed.Security(
                tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, require_encryption=True
            )
            security.get_connection_args("client")
        except (OSError, ValueError) as error:  # ssl's errors are OSErrors
            raise RunError(
                f"The TLS files {ca!r}, {cert!r} and {key!r} cannot be used: {error}. ca_file and cert_file must hold "
                "certificates in PEM format, and key_file the key of the certificate in cert_file."
            ) from error
        return security

    def _unreachable(self, error: Exception) -> RunError:
        texts = [str(error)]
        cause = error.__cause__ or error.__context__
        while cause is not None:
            texts.append(str(cause))
            cause = cause.__cause__ or cause.__context__
        hint = (
            "Is it running, and is the address the one that it printed? A run goes on elsewhere, too: "
            "thalweg resume RUN --scheduler ADDRESS, or --threads N."
        )
        if self._files:
            hint = (
                "If it is running: the certificates of both sides must be signed by the same authority, the one in "
                "ca_file."
            )
        elif str(self._address).startswith("tls://"):
            hint += " A tls:// address needs ca_file, cert_file and key_file."
        last = f" ({texts[-1]})" if len(texts) > 1 else ""
        return RunError(f"The Dask scheduler at {self._address!r} cannot be reached: {texts[0]}{last}. {hint}")

    def _start(self) -> Any:
        """Worker processes of this machine, which only this machine can reach."""
        from thalweg.runtime.own_workers import OwnWorkers  # Dask is an extra

        try:
            return OwnWorkers(self._count, self._tell)
        except RuntimeError as error:
            raise RunError(
                f"The worker processes cannot be started: {error.__cause__ or error}. They wrote why, above. A script "
                "that starts them needs \"if __name__ == '__main__':\" before what it does, since they import it."
            ) from error


@contextmanager
def _without_log(name: str) -> Iterator[None]:
    """Nothing is logged there: a client that is closed while it tries to reach a lost scheduler again prints how it was
    interrupted, and whoever asked for work has been told already."""

    def none(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger(name)
    logger.addFilter(none)
    try:
        yield
    finally:
        logger.removeFilter(none)
