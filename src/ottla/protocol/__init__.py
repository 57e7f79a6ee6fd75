"""Kafka's messages as typed classes, and the codecs that are compiled from them on first use.

Floor 1. Imports base.
"""
