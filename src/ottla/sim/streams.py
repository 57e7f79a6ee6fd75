"""Random numbers of a run, one stream for each purpose.

Each stream is seeded by the run's seed and its own name, so that one more draw in one place
shifts nothing anywhere else: a seed stays near the run it was when code changes.
"""

import random


class Streams:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def stream(self, purpose: str) -> random.Random:
        """A new generator; the same one for the same seed and purpose. (A text seeds `Random`
        by SHA-512, which PYTHONHASHSEED does not touch.)"""
        return random.Random(f"{self.seed}/{purpose}")
