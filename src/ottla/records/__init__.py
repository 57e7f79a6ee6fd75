"""Record batches (message format v2): their bytes, and what may be known without unpacking them.

Floor 1. Imports base.
"""
