"""Who may do what: access control entries and the decision made of them.

Nothing here reads or sends a byte.
"""
