"""The real world: reactor, acceptor, connections, disk, threads, clock.

Floor 5. Imports base alone.
"""
