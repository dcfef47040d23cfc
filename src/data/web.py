"""Pictures behind web addresses."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass

from ..errors import UnreadableError

URL_TIMEOUT_SECONDS = 30.0
"""How long a web server may keep us waiting for an answer, or for the next part of it."""

URL_MAX_MEGABYTES = 100
"""Larger answers of a web server are refused."""


def is_url(value: object) -> bool:
    """Whether a value is a web address."""
    return isinstance(value, str) and value.lower().startswith(("http://", "https://"))


@dataclass(frozen=True)
class Address:
    """A web address, fetched when its turn comes.

    Args:
        url: Of http or https.
    """

    url: str

    def read(
        self,
        *,
        timeout_seconds: float = URL_TIMEOUT_SECONDS,
        max_megabytes: float = URL_MAX_MEGABYTES,
    ) -> bytes:
        """Download what is there.

        Raises:
            UnreadableError: There is no answer, or a refusal, or too large a one; with the bare
                reason as its message.
        """
        most = int(max_megabytes * 1e6)
        request = urllib.request.Request(self.url, headers={"User-Agent": "mealkit"})
        try:
            with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
                data: bytes = answer.read(most + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise UnreadableError(f"the server answered {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise UnreadableError(f"the server cannot be reached ({error.reason})") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise UnreadableError(
                f"the download failed ({type(error).__name__}: {error})"
            ) from error
        if len(data) > most:
            raise UnreadableError(f"larger than {max_megabytes:g} MB")
        return data
