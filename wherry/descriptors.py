"""How many files and connections this process may have open."""

import logging
import resource

logger = logging.getLogger(__name__)

SPARE = 256
"""File descriptors for everything that is not a connection."""


def room_for_files(connections: int) -> int:
    """Let this process have ``connections`` open, or as many as the system allows it.

    The soft limit is often 1024 for the sake of programs that call select(); ours do not. It is
    raised as far as the hard limit; when that is too low, the log says so.

    Returns:
        How many file descriptors it may have now.

    Source: https://man7.org/linux/man-pages/man2/getrlimit.2.html
    """
    wanted = connections + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft != resource.RLIM_INFINITY and soft < wanted:
        logger.warning(
            "few file descriptors: %d, expected %d for %d connections; raise the hard limit "
            "(ulimit -Hn)",
            soft,
            wanted,
            connections,
        )
    return wanted if soft == resource.RLIM_INFINITY else soft
