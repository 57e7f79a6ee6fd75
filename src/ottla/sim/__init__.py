"""The simulated world: virtual time, a disk that loses, seeds that replay.

Floor 5.
"""
