"""Where work runs: a pool of threads on this machine, or a cluster; both have the same face."""

from thalweg.runtime.base import Runtime, Watched
from thalweg.runtime.dask import Dask
from thalweg.runtime.local import Local
from thalweg.runtime.shared import Shared
from thalweg.runtime.tree import Pieces, TreeReduction, add_trees

__all__ = ["Dask", "Local", "Pieces", "Runtime", "Shared", "TreeReduction", "Watched", "add_trees"]
