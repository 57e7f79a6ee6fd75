"""The words of the house: ids, errors, limits, options and the protocols of the outside world.

Floor 0. Imports the standard library alone, and nothing of Ottla above it.
"""
