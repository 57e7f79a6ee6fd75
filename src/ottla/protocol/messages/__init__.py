"""One module per API key, holding its request and its response.
"""
