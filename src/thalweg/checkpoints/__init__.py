"""State on disk: numbered generations, each whole or absent, that know when they are damaged. ::

    folder/
      000001/                  a generation
        manifest.json          meta, and a digest of every array and of itself
        state.safetensors      the arrays

A generation is written in a temporary folder, every file is flushed to the disk, and only then does the
folder get its name, so that a crash at any moment leaves the earlier generations as they were. Nothing in it
names a path: the folder may be copied or moved. Nothing in it can run code.
"""

from thalweg.checkpoints.files import whole
from thalweg.checkpoints.manifest import FORMAT, canonical
from thalweg.checkpoints.store import CheckpointStore

__all__ = ["FORMAT", "CheckpointStore", "canonical", "whole"]
