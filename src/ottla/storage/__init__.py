"""One machine's log: segments, indexes, recovery, retention, checkpoints.

Floor 2. Imports base and records.
"""
