"""Kafka's messages as classes, and the codecs that are compiled from them.

Floor 1. Imports base.
"""
