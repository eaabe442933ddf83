"""Thalweg's figures beside their targets and its peers: ``python -m benchmarks waves``, or graph, imports, all.

The peers are installed for this alone: ``pip install -r benchmarks/requirements.txt``. One that is missing is named in
the table and the rest runs without it. Every contender runs in a process of its own, because two thread pools in one
process slow each other down, and they take turns, round after round, so that what else the machine does hits all of
them alike. Medians are quoted, with the least and the largest sample. Compilation and the first run are warm-up, for
everybody. ``--quick`` shrinks everything that is timed and judges no time; correctness is measured in full.
"""
