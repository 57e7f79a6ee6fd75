"""Coordinators: state machines whose log is an internal topic.

`runtime` keeps one machine for each partition of the topic that this node leads; `group` is the
machine of consumer groups and their offsets.
"""
