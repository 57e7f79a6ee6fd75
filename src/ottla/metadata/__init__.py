"""What the cluster agrees on: the image, the store it is kept in, who decides.

Floor 3. Imports base, protocol, security and rpc.
"""
