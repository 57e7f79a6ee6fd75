"""The request pipeline, one handler per API key, and a node put together from a World.

Floor 4. Imports all floors below.
"""
