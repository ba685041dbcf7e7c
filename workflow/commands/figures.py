def figures():
    """x"""
