"""One file a contender, each run in its own process by `benchmarks.contest`.

Only the file that is about a peer imports it, so that a missing peer is one line in the table.
"""
