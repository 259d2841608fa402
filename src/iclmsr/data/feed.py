# SPDX-License-Identifier: Apache-2.0
"""Images as training asks for them, batch by batch: from memory, or from files.

Files are decoded by worker processes, a few batches ahead. They are forked by a server process
without threads (``forkserver``): forking the training process itself, with its threads and its
GPU, is not safe. As with all of Python's multiprocessing, a script that gets here does so below
``if __name__ == "__main__":``.
"""

import itertools
import multiprocessing
import os
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import shared_cache
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from iclmsr.data.decode import FaintMask
from iclmsr.data.decoded import Decoded, Task, Unreadable, decode
from iclmsr.data.file_set import FileSet
from iclmsr.data.images import ImageSet
from iclmsr.data.jpeg import Decoder
from iclmsr.data.workers import begin, end, without_interrupts

PIECE = 32
"""Images that a worker decodes at a time."""
BATCHES_AHEAD = 2
GRACE = 2.0
"""Seconds that the workers of a run that is stopped have to end."""


class Masked(NamedTuple):
    """Images and their foreground masks.

    Attributes:
        images: (B, 3, H, W) uint8.
        masks: (B, H, W) bool, true on the foreground.
    """

    images: Tensor
    masks: Tensor


class Feed(ABC):
    """Where batches of images come from.

    Attributes:
        count: N.
        size: Height and width of an image, pixels.
        workers: Processes that decode.
    """

    count: int
    size: tuple[int, int]
    workers: int = 0

    @abstractmethod
    def expect(self, batches: Sequence[Tensor]) -> None:
        """Says what will be fetched, in this order, so that it is there early.

        Args:
            batches: Indices (B,) of each batch; what was expected before is forgotten.
        """

    @abstractmethod
    def fetch(self, index: Tensor) -> Tensor:
        """The images at ``index`` (B,), (B, 3, H, W) uint8 on the device; expected or not.

        Raises:
            Unreadable: An image does not decode, or the workers were lost.
        """

    @abstractmethod
    def fetch_masked(self, index: Tensor) -> Masked:
        """As :meth:`fetch`, with the masks, which the set has."""

    @abstractmethod
    def close(self) -> None:
        """Ends the workers."""

    def __enter__(self) -> "Feed":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Held(Feed):
    """Images held in memory, or mapped into it: on the device if they take half of it at most.

    Args:
        images: (N, 3, H, W) uint8.
        device: Where batches go.
        masks: (N, H, W) bool, or None.
    """

    def __init__(self, images: Tensor, device: torch.device, masks: Tensor | None = None) -> None:
        self.count, self.device, self.masks = len(images), device, masks
        self.size = (images.shape[-2], images.shape[-1])
        there = device.type != "cuda" or 2 * images.nbytes <= torch.cuda.mem_get_info(device)[0]
        self.images = images.to(device) if there else images

    def expect(self, batches: Sequence[Tensor]) -> None:
        """They are all there."""

    def fetch(self, index: Tensor) -> Tensor:
        """The images at ``index``."""
        return self.images.index_select(0, index.to(self.images.device)).to(self.device)

    def fetch_masked(self, index: Tensor) -> Masked:
        """They and their masks."""
        assert self.masks is not None, "the set has masks"
        return Masked(self.fetch(index), self.masks[index].to(self.device))

    def close(self) -> None:
        """There are none."""


class Streamed(Feed):
    """Images decoded from their files, by the workers as far as they were expected.

    Memory holds about two batches that lie ahead, and at least two pieces of 32 images of each
    worker, whatever the size of the set. The same bits come out with any number of workers.

    Args:
        files: The images.
        device: Where batches go.
        workers: Processes that decode, >= 0; with 0 this one does, when asked.
    """

    def __init__(self, files: FileSet, device: torch.device, workers: int) -> None:
        self.count, self.size = len(files), (files.image_size, files.image_size)
        self.files, self.device, self.workers = files, device, workers
        self.told = False
        self.expected: deque[Tensor] = deque()
        self.loader: DataLoader[Decoded] | None = None
        self.pieces: Iterator[Decoded] | None = None

    def expect(self, batches: Sequence[Tensor]) -> None:
        """As :meth:`Feed.expect`; the workers begin when the first batch is asked for."""
        if self.workers:
            self.expected, self.pieces = deque(batches), None

    def fetch(self, index: Tensor) -> Tensor:
        """The images at ``index``."""
        return self.files.view(self._planes(index)[:, :3])

    def fetch_masked(self, index: Tensor) -> Masked:
        """They and their masks, whole even if the set is ``centred``."""
        planes = self._planes(index)
        return Masked(planes[:, :3], planes[:, 3].bool())

    def _planes(self, index: Tensor) -> Tensor:
        """What was decoded of the images at ``index``, (B, P, S, S), see :class:`Decoded`."""
        files, parts = self.files, _pieces(index)
        decoded: Iterator[Decoded]
        if self.expected and torch.equal(self.expected[0], index):
            if self.pieces is None:
                self.pieces = self._stream(list(self.expected))
            self.expected.popleft()
            decoded = itertools.islice(self.pieces, len(parts))
        else:
            how = files.image_size, files.decoder
            decoded = (decode(files.tasks(part), *how) for part in parts)
        count = 3 if files.masks is None else 4
        planes = torch.empty(len(index), count, *self.size, dtype=torch.uint8, device=self.device)
        for rows, part, piece in zip(_pieces(planes), parts, decoded, strict=True):
            if piece.faint and not self.told:
                self.told = True
                warnings.warn(piece.faint, FaintMask, stacklevel=2)
            rows.copy_(files.mended(piece, part, self.device), non_blocking=True)
            del piece
        with shared_cache.lock:  # torch keeps what workers sent until 128 of them have piled up
            shared_cache.free_dead_references()  # type: ignore[no-untyped-call]
        return planes

    def close(self) -> None:
        """Ends the workers; those that are at work finish their piece."""
        # An error's traceback may keep the iterator alive: its end must not wait for its deletion.
        iterator = getattr(self.loader, "_iterator", None)
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            iterator._shutdown_workers()
        self.loader = self.pieces = None

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        """Ends the workers; after an error soon, whatever they are at."""
        iterator = getattr(self.loader, "_iterator", None)
        if kind is not None and isinstance(iterator, _MultiProcessingDataLoaderIter):
            end(iterator._workers, grace=GRACE)
        super().__exit__(kind, *rest)

    def _stream(self, batches: list[Tensor]) -> Iterator[Decoded]:
        """What the workers decode of these batches, piece by piece."""
        try:
            with without_interrupts(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "This DataLoader will create")  # as many as told
                if self.loader is None:
                    self.loader = self._loader(len(batches[0]))
                assert isinstance(self.loader.batch_sampler, _Tasks)
                self.loader.batch_sampler.batches = batches
                decoded = iter(self.loader)
            yield from decoded
        except Unreadable as error:  # of a shard; torch says it with the worker's traceback
            self.close()
            raise Unreadable(str(error).splitlines()[-1].partition(": ")[2]) from error
        except (RuntimeError, OSError, EOFError) as error:
            self.close()
            why = f"{type(error).__name__}: {error}".strip().splitlines()[-1]
            raise Unreadable(
                f"a worker process of the {self.workers} that decode images failed ({why}): it was "
                "killed, or there was no memory or no room in /dev/shm, or a script starts them "
                'without `if __name__ == "__main__":`; pass a smaller --data.workers',
                "--data.workers 1",
            ) from error

    def _loader(self, batch: int) -> DataLoader[Decoded]:
        """The workers, none of them started yet."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        ahead = BATCHES_AHEAD * -(-batch // PIECE)
        return DataLoader[Decoded](
            _Files(self.files.image_size, self.files.decoder),
            batch_sampler=_Tasks(self.files),
            collate_fn=_as_it_is,
            num_workers=self.workers,
            prefetch_factor=max(2, -(-ahead // self.workers)),
            persistent_workers=True,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=partial(begin, os.getpid()),
            multiprocessing_context=context,
            generator=torch.Generator(),  # lest the loader draws from the run's own
        )


class _Tasks:
    """The pieces to decode, each as a list of files; a mended set is seen as it is by then."""

    def __init__(self, files: FileSet) -> None:
        self.files = files
        self.batches: list[Tensor] = []

    def __iter__(self) -> Iterator[list[Task]]:
        for batch in self.batches:
            yield from map(self.files.tasks, _pieces(batch))


class _Files(Dataset[Decoded]):
    """What a worker knows: how large images are and what decodes; the files come with each task."""

    def __init__(self, image_size: int, decoder: Decoder) -> None:
        self.image_size, self.decoder = image_size, decoder

    def __getitems__(self, tasks: list[Task]) -> Decoded:
        return decode(tasks, self.image_size, self.decoder, shared=True)


def _pieces(rows: Tensor) -> list[Tensor]:
    """A tensor's rows, as many at a time as a worker decodes."""
    return [rows[start : start + PIECE] for start in range(0, len(rows), PIECE)]


def _as_it_is(decoded: Any) -> Any:
    """No further collation."""
    return decoded


def feed_of(images: ImageSet | FileSet, device: torch.device, workers: int | None = None) -> Feed:
    """Hands out a set of images, wherever it lies.

    Args:
        images: The set.
        device: Where batches go.
        workers: Processes that decode what lies in files; None: one for each core that this
            process may use, shared with the other ranks on the machine.

    >>> one = ImageSet(torch.full((1, 3, 2, 2), 7, dtype=torch.uint8), torch.tensor([0]), ("a",))
    >>> feed_of(one, torch.device("cpu")).fetch(torch.tensor([0, 0])).shape
    torch.Size([2, 3, 2, 2])
    """
    if isinstance(images, ImageSet):
        return Held(images.images, device, images.masks)
    if workers is None:
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        workers = max(len(os.sched_getaffinity(0)) // ranks, 1)
    return Streamed(images, device, workers)
