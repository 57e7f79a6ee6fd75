"""The ottla command.

Floor 6.
"""
