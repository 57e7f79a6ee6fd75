"""Coordinators: state machines whose log is an internal topic.

`runtime` keeps one machine for each partition of the topic that this node leads; `group` is the
machine of consumer groups and their offsets, `transaction` that of transactional ids and the
markers that end what they began.
"""
