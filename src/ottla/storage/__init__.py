"""One machine's logs: segments and their indexes, recovery, retention and group commit.

Floor 2. Imports base and records. All input and output goes through the Disk and the Offload
of `base.world` that are handed in; there is no clock here: the caller says what time it is.

    log_dir     one directory of log.dirs: lock, identity, checkpoints, all its logs
    log         one partition: an ordered list of segments, its offsets, its producers
    segment     one .log file with its two indexes
    recovery    how a log is opened: what is trusted, what is scanned, what is cut
    reader      from an offset to a piece of a file
    flusher     group commit
    compaction  one pass over sealed segments; `cleanable` says of which, `replacement` puts it in
    verify      a stopped node's directories against themselves; `repair` builds anew what can be
"""
