"""Groups of consumers: who belongs to one, what each reads, and how far the group has read."""
