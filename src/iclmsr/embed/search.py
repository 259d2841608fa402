# SPDX-License-Identifier: Apache-2.0
"""The images whose vectors are nearest to one's."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iclmsr.embed.embedder import Embedder
from iclmsr.embed.table import Rows, read_about, read_groups
from iclmsr.encoders import Preprocessing, load_encoder
from iclmsr.errors import IclmsrError


class Neighbour(NamedTuple):
    """An image that was found.

    Attributes:
        path: As in the file of vectors.
        cosine: Of its vector with the one that was looked for, in [-1, 1].
    """

    path: str
    cosine: float


def search(
    features: Path, image: Any, *, encoder: str | Path | None = None, k: int = 5
) -> list[Neighbour]:
    """The k images of a parquet file that are most like an image, the nearest first.

    Args:
        features: What `iclmsr embed` wrote.
        image: In any form that :meth:`Embedder.embed` takes; one image.
        encoder: Where the encoder lies now; None: where it lay then.
        k: How many, >= 1.

    Raises:
        IclmsrError: No such file, no image, or the encoder is gone or another one.
    """
    if k < 1:
        raise IclmsrError(f"-k must be >= 1, got {k}")
    if features.suffix != ".parquet":
        raise IclmsrError(f"search reads .parquet files of iclmsr embed, got {features}")
    about = read_about(features)
    source = about["encoder"] if encoder is None else encoder
    try:
        loaded = load_encoder(source)
    except IclmsrError as error:
        if encoder is not None:
            raise
        raise IclmsrError(f"{error}; pass --encoder with where it lies now") from error
    if loaded.sha256 != about["origin"]["encoder"]:
        raise IclmsrError(
            f"{features} holds vectors of {about['name']}, but {source} is another encoder or was "
            "trained since: pass --encoder with the one, or embed the images again"
        )
    prepared = Preprocessing.from_json(about["origin"]["preprocessing"])
    query = Embedder(loaded, prepared).embed(image)
    if len(query) != 1:
        raise IclmsrError(f"search looks for one image, got {len(query)}")
    return nearest_rows(query[0], read_groups(features), k)


def nearest_rows(query: NDArray[np.float32], groups: Iterable[Rows], k: int) -> list[Neighbour]:
    """The k rows with the largest cosine, of two equal ones the earlier first.

    Args:
        query: (F,).
        groups: Paths and vectors (n, F); one group is held at a time.
        k: How many, >= 1.

    Source: none. Departure: the cosine with a vector of zeros is taken as 0.

    >>> rows = (["a", "b"], np.array([[2, 0], [3, 3]], np.float32))
    >>> for path, cosine in nearest_rows(np.ones(2), [rows], 2):
    ...     print(path, round(cosine, 3))
    b 1.0
    a 0.707
    """
    own = _unit(query[None].astype(np.float64))[0]
    best: list[Neighbour] = []
    for paths, vectors in groups:
        if vectors.shape[1] != len(own):
            raise IclmsrError(f"vectors have {vectors.shape[1]} numbers, the query {len(own)}")
        cosines = _unit(vectors.astype(np.float64)) @ own
        order = np.argsort(-cosines, kind="stable")[:k]
        best += [Neighbour(paths[row], float(cosines[row])) for row in order]
        best = sorted(best, key=lambda one: -one.cosine)[:k]
    return best


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: NDArray[np.float64] = vectors / np.where(lengths > 0, lengths, 1)
    return result
