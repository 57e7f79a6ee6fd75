"""Who may do what: access control entries and the decision made of them; and how one proves who
one is (SASL).

Nothing here reads or sends a byte.
"""
