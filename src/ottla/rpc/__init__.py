"""Rpc: a channel to another node, by which brokers and clients ask each other."""
