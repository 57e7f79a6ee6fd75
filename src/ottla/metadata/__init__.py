"""What the cluster agrees on: the image, the store it is kept in, who decides.

Floor 3. May import base, protocol and rpc.
"""
