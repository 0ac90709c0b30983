"""The keys that sign our tokens, kept up with their file."""

import asyncio
from pathlib import Path

from gateway.authn.oauth import Signer
from gateway.authn.seeds import seeds


class SigningKeys:
    """The keys as the file has them; every process of the gateway reads the same.

    Args:
        path: The file; made at first use.
        issuer: What our tokens say they are from.

    Attributes:
        signer: Of the keys that were read last.

    Raises:
        StartError: The file cannot be used.
    """

    def __init__(self, path: Path, issuer: str) -> None:
        self._path, self._issuer = path, issuer
        self._seeds = seeds(path)
        self.signer = Signer(self._seeds, issuer)

    async def read_again(self) -> None:
        """Read the file, for a token that names a key it did not have before.

        Raises:
            StartError: The file cannot be used.
        """
        found = await asyncio.to_thread(seeds, self._path)
        if found != self._seeds:
            self._seeds, self.signer = found, Signer(found, self._issuer)
