"""Whose signatures are accepted: an AWS credentials file."""

import configparser
from pathlib import Path

from faas.api.sigv4 import Key
from wherry.errors import StartError

MAX_FILE = 1 << 20


class Credentials(dict[str, Key]):
    """Access keys by their ids."""

    @classmethod
    def read(cls, path: Path, account: str) -> "Credentials | None":
        """Read a file as ``aws configure`` writes it; return None when there is none.

        Every profile is a user: ``arn:aws:iam::ACCOUNT:user/PROFILE``.

        Args:
            path: With ``aws_access_key_id``, ``aws_secret_access_key`` and, for keys that come
                with one, ``aws_session_token`` in each section.
            account: 12 digits, for the ARNs.

        Raises:
            StartError: It cannot be read, or a profile lacks a key.
        """
        try:
            if path.stat().st_size > MAX_FILE:
                raise StartError(f"credentials {path}: expected at most {MAX_FILE} bytes")
            text = path.read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(
                f"credentials {path}: {error}, expected an INI file that we may read"
            ) from error
        return cls.parse(text, path.name, account)

    @classmethod
    def parse(cls, text: str, name: str, account: str) -> "Credentials":
        """Read the text of such a file; ``name`` is for errors.

        Raises:
            StartError: It is no INI file, or a profile lacks a key, or has another's.
        """
        parser = configparser.RawConfigParser(default_section="")
        try:
            parser.read_string(text)
        except configparser.Error as error:
            line = getattr(error, "lineno", "?")
            raise StartError(
                f"credentials {name}: line {line} cannot be read, expected an INI file"
            ) from None
        found = cls()
        for profile in parser.sections():
            section = parser[profile]
            key_id = section.get("aws_access_key_id", "")
            secret = section.get("aws_secret_access_key", "")
            if not (key_id and secret) or key_id in found:
                raise StartError(
                    f"credentials {name}: profile {profile}, expected aws_access_key_id, unlike "
                    "any other profile's, and aws_secret_access_key"
                )
            found[key_id] = Key(
                key_id,
                secret,
                section.get("aws_session_token", ""),
                f"arn:aws:iam::{account}:user/{profile}",
            )
        if not found:
            raise StartError(f"credentials {name}: no profile, expected at least one")
        return found
