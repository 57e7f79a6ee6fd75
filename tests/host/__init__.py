"""A package, so that modules named alike in other rooms' tests do not meet."""
