"""Partitions of this node: append, read, high watermark, requests that wait.

Floor 3. Imports floors 0 to 2 and metadata.
"""
