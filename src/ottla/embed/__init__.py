"""A broker in the caller's own process.

Floor 6.
"""
