"""Names of scopes."""


def is_scope(text: str) -> bool:
    """Return whether ``text`` can be the name of a scope.

    Source: RFC 6749 section 3.3
    """
    return 0 < len(text) <= 128 and all(  # noqa: PLR2004
        each in "!" or "#" <= each <= "[" or "]" <= each <= "~" for each in text
    )
