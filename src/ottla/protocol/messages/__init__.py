"""One module per API key: its request, its response and their nested structs, nothing else.

A module is named for its `ApiKey`, lower case, and loaded when that key is first asked for.
"""
