"""Where work runs: a pool of threads on this machine; the same face serves a cluster."""

from thalweg.runtime.base import Runtime, Watched
from thalweg.runtime.local import Local
from thalweg.runtime.tree import TreeReduction, add_trees

__all__ = ["Local", "Runtime", "TreeReduction", "Watched", "add_trees"]
