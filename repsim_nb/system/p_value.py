"""How p-values are written, and the level at which they count."""

LEVEL = 0.05


def at_most(p_value: float, least: float) -> str:
    """Write a p-value; one at the smallest value that the test can give is written as "at most".

    Examples
    --------
    >>> at_most(0.01, least=0.01), at_most(0.23, least=0.01)
    ('p at most 0.01', 'p 0.23')
    """
    return f"p at most {least:.2g}" if p_value <= least * (1 + 1e-9) else f"p {p_value:.2g}"
