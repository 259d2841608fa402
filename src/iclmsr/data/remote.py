# SPDX-License-Identifier: Apache-2.0
"""Files at a URL, read patiently: over HTTP, from S3 and whatever else fsspec knows."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from iclmsr.errors import Damaged, IclmsrError

Value = TypeVar("Value")
TRANSIENT = (408, 416, 425, 429)
"""HTTP's 4xx that may be another answer later; 416 comes of a file that is being replaced."""
REASON = 200
"""Characters of an exception that a message has."""
FACTS = ("size", "ETag", "Last-Modified", "LastModified", "etag", "updated", "mtime")
"""What file systems say of a file that changes when it is replaced, each some of it."""


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        tries: How often, >= 1.
        first: Wait after the first failure, seconds; it doubles with each. A server that asks
            for more gets it.
        longest: The longest wait, seconds.
        timeout: How long a server may send nothing, seconds.
        chunk: Bytes that one request asks for: what is lost when it is cut off.
        sleep: Waits so many seconds.
    """

    tries: int = 8
    first: float = 0.5
    longest: float = 30.0
    timeout: float = 60.0
    chunk: int = 16 << 20
    sleep: Callable[[float], None] = time.sleep

    def delays(self) -> list[float]:
        """The waits between the tries, seconds.

        >>> Patience(tries=5, longest=3).delays()
        [0.5, 1.0, 2.0, 3]
        """
        return [min(self.first * 2**number, self.longest) for number in range(self.tries - 1)]

    def keep_trying(self, url: str, action: Callable[[], Value]) -> Value:
        """What ``action`` returns as soon as it does not raise.

        Raises:
            IclmsrError: It raised at every try, or for a reason that time does not heal.
        """
        delays = self.delays()
        for tried in range(self.tries):
            last, asked = tried == len(delays), 0.0
            try:
                return action()
            except IclmsrError as error:
                if last or not isinstance(error, Damaged):
                    raise
            except Exception as error:  # every file system has errors of its own
                if last or _lasting(error):
                    raise self._failed(url, tried + 1, error) from error
                asked = min(_asked(error), self.longest)
            self.sleep(max(delays[tried], asked))
        raise AssertionError("patience.tries must be >= 1")

    def _failed(self, url: str, tries: int, error: Exception) -> IclmsrError:
        """The error after so many tries."""
        times = "once" if tries == 1 else f"{tries} times"
        remedy = "try later, or another copy"
        if _lasting(error):
            remedy = "mend the address or your rights"
        return IclmsrError(
            f"cannot read {url}: tried {times}, last: {self._reason(error)}: {remedy}"
        )

    def _reason(self, error: BaseException) -> str:
        """An exception in one line, cut where it is long: some quote what they cannot read."""
        error = _answer(error)
        if isinstance(error, TimeoutError):
            return f"nothing came for {self.timeout:g} seconds"
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return text if len(text) <= REASON else f"{text[: REASON - 4]} ..."


def _answer(error: BaseException) -> BaseException:
    """What a server said: fsspec's HTTP says "not found" whatever it was, and that as the cause."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    return cause or error


def _asked(error: Exception) -> float:
    """Seconds that a server asks to be left alone for, in ``Retry-After``; 0 if it does not."""
    text = (getattr(_answer(error), "headers", None) or {}).get("Retry-After", "")
    return float(text) if re.fullmatch(r"\d{1,9}", text.strip()) else 0.0


def _lasting(error: Exception) -> bool:
    """Whether to try again is of no use."""
    answer = _answer(error)
    if type(answer).__name__ == "TooManyRedirects":  # aiohttp's, which may not be installed
        return True
    status = getattr(answer, "status", None)
    if isinstance(status, int):
        # What aiohttp cannot read is no server's answer: it says 400 itself, and has a cause.
        return 400 <= status < 500 and status not in TRANSIENT and answer.__cause__ is None
    # A store, too, names its own answer as the cause.
    http = answer is not error and (
        isinstance(answer, OSError) or type(answer).__module__.startswith("aiohttp")
    )
    return not http and isinstance(error, FileNotFoundError | PermissionError)


@dataclass(frozen=True)
class Remote:
    """Reads files by their URL.

    Attributes:
        patience: How long it tries.
    """

    patience: Patience = Patience()

    def read(self, url: str) -> bytes:
        """The whole file.

        Raises:
            IclmsrError: It cannot be had, with the URL, the tries and the last reason.
        """

        def whole() -> bytes:
            files, path = self._files(url)
            return bytes(files.cat_file(path))

        return self.patience.keep_trying(url, whole)

    def facts(self, url: str) -> tuple[int, str]:
        """The file's length, bytes, and all that is said of it that changes if it is replaced.

        Raises:
            IclmsrError: As :meth:`read`; or the server does not say how long it is.
        """

        def ask() -> dict[str, Any]:
            files, path = self._files(url)
            return dict(files.info(path))

        info = self.patience.keep_trying(url, ask)
        if info.get("size") is None:
            raise IclmsrError(
                f"cannot read {url}: its server does not say how long it is: `iclmsr data shard` "
                "makes shards with an index that says it"
            )
        return int(info["size"]), repr([info.get(fact) for fact in FACTS])

    def pieces(self, url: str, size: int, start: int = 0) -> Iterator[bytes]:
        """The file from ``start`` on, one piece after the other, none twice.

        Args:
            url: The file.
            size: Its length, bytes.
            start: Where to begin, bytes.

        Raises:
            IclmsrError: As :meth:`read`.
        """
        while start < size:
            end = min(start + self.patience.chunk, size)

            def piece(start: int = start, end: int = end) -> bytes:
                return self._range(url, start, end, size)

            data = self.patience.keep_trying(url, piece)
            yield data
            start += len(data)

    def _range(self, url: str, start: int, end: int, size: int) -> bytes:
        """Bytes from ``start`` to ``end``, or to the end where the server sends it all."""
        files, path = self._files(url)
        data = bytes(files.cat_file(path, start=start, end=end))
        if len(data) == size != end - start:  # a server that does not know ranges
            return data[start:]
        if len(data) != end - start:
            raise EOFError(f"got {len(data):,} bytes of {end - start:,}")
        return data

    def _files(self, url: str) -> tuple[Any, str]:
        """The file system, and the file's path in it; fsspec keeps connections for both."""
        try:
            import fsspec

            options: dict[str, Any] = {}
            if url.startswith(("http://", "https://")):
                import aiohttp
                import yarl

                if not yarl.URL(url).host:
                    raise ValueError("it names no server")
                seconds = self.patience.timeout
                limits = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
                options["client_kwargs"] = {"timeout": limits}
                options["headers"] = {"Accept-Encoding": "identity"}
            files, path = fsspec.core.url_to_fs(url, **options)
        except ImportError as error:
            raise IclmsrError(
                f"reading {url} needs a package that is not installed ({error}): "
                "pip install 'iclmsr[shards]' for http, s3fs for s3, gcsfs for gs"
            ) from error
        except (TypeError, ValueError) as error:  # it lacks what this kind of URL needs
            raise IclmsrError(f"cannot read {url}: {error}: mend the address") from error
        return files, path
