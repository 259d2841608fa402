# SPDX-License-Identifier: Apache-2.0
"""How fast the classifiers of evaluation are, beside scikit-learn: the table of RESULTS.md.

    OMP_NUM_THREADS=2 python benchmarks/evaluate.py --rounds 3
    python benchmarks/evaluate.py --images 5000 --queries 1000 --rounds 1      # a quick look

Features are made: 512 of them behind a ReLU, of 10 classes that overlap, in two spectra. In
``steep`` the standard deviation of the i-th direction falls as 1 / i, which encoders' features come
close to; in ``round`` all directions are alike, the easiest case that there is for an optimizer
and the hardest for a search. Ours and scikit-learn's take turns. What is compared is equal, or the
script ends with an error: predictions of 5-nn all the same (but for rows whose 5th and 6th
neighbour are equally far), and the regularized loss, in float64, not higher than scikit-learn's by
more than 1e-6 of it. scikit-learn stops by its gradient, so its tolerance is lowered until its loss
is within 1e-6 of the optimum too, or until it has made 1,000 steps, which the table then says.
"""

import argparse
import os
import resource
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F

from iclmsr.devices import keep_freed_memory
from iclmsr.evaluate.features import Features
from iclmsr.evaluate.knn import knn_votes
from iclmsr.evaluate.linear_probe import fit
from iclmsr.evaluate.logistic import fit_logistic
from iclmsr.evaluate.probe import fit_chosen
from iclmsr.evaluate.protocol import LinearProbeConfig, LogisticProbeConfig
from iclmsr.seeds import generator

WIDTH, CLASSES, EQUAL = 512, 10, 1e-6
STEPS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spectra", nargs="+", default=["steep", "round"])
    parser.add_argument("--skip", nargs="*", default=[], choices=["probe", "logistic", "knn"])
    args = parser.parse_args()
    keep_freed_memory()  # as evaluation does; scikit-learn has it, too
    print(
        f"{args.images:,} x {WIDTH} features, {CLASSES} classes, {args.queries:,} queries; "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; {args.rounds} rounds; "
        f"load of the machine {os.getloadavg()[0]:.1f}.\n"
    )
    print("| what | spectrum | ours, s | scikit-learn, s | so many times as fast | equal |")
    print("|---|---|--:|--:|--:|---|")
    for spectrum in args.spectra:
        train = features(args.images, spectrum, "train")
        test = features(args.queries, spectrum, "test")
        if "probe" not in args.skip:
            probe(train, spectrum, args.rounds)
        if "logistic" not in args.skip:
            logistic(train, spectrum, args.rounds)
        if "knn" not in args.skip:
            nearest(train, test, spectrum, args.rounds)
    print(
        f"\nload at the end {os.getloadavg()[0]:.1f}; peak of the process "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:,.0f} MiB"
    )


def features(count: int, spectrum: str, name: str) -> Features:
    """Rows (count, 512) float32, >= 0."""
    spread = torch.ones(WIDTH)
    if spectrum == "steep":
        spread = 1 / torch.arange(1, WIDTH + 1)
    fixed = generator(0, "benchmark", spectrum)
    turn, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=fixed))
    centres = 0.15 * torch.randn(CLASSES, WIDTH, generator=fixed)
    source = generator(0, "benchmark", spectrum, name)
    labels = torch.randint(CLASSES, (count,), generator=source)
    rows = (torch.randn(count, WIDTH, generator=source) + centres[labels]) * spread
    return Features((3 * rows @ turn + 0.3).relu(), labels)


def taking_turns(rounds: int, *ways: Callable[[], object]) -> list[list[float]]:
    """Seconds of each way in each round."""
    seconds: list[list[float]] = [[] for _ in ways]
    for number in range(rounds):
        for place in range(len(ways)):
            place = (place + number) % len(ways)
            began = time.perf_counter()
            ways[place]()
            seconds[place].append(time.perf_counter() - began)
    return seconds


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def row(what: str, spectrum: str, seconds: list[list[float]], equal: str) -> None:
    ratios = [theirs / ours for ours, theirs in zip(*seconds, strict=True)] if seconds[1:] else []
    theirs = shown(seconds[1]) if seconds[1:] else ""
    ratio = shown(ratios) if ratios else ""
    print(
        f"| {what} | {spectrum} | {shown(seconds[0])} | {theirs} | {ratio} | {equal} |", flush=True
    )


def probe(train: Features, spectrum: str, rounds: int) -> None:
    """The whole w-mse-2021 probe; nobody else has it."""
    seconds = taking_turns(rounds, lambda: fit(train, LinearProbeConfig(), classes=CLASSES))
    row("`w-mse-2021` probe", spectrum, seconds, "")


def logistic(train: Features, spectrum: str, rounds: int) -> None:
    """One fit at scikit-learn's default penalty, to equal loss; the protocol with its choice."""
    count = len(train.labels)
    penalty = 1 / count  # C = 1
    exact = Features(train.features.double(), train.labels)
    best = fit_logistic(exact, penalty=penalty, classes=CLASSES, tolerance=1e-13).loss
    x, y = train.features.numpy(), train.labels.numpy()
    ours = fit_logistic(train, penalty=penalty, classes=CLASSES)
    own = loss(*ours.classifier, exact, penalty) / best - 1
    for tolerance, times in ((1e-4, rounds), (1e-6, 1)):
        peer = LogisticRegression(C=1.0, max_iter=STEPS, tol=tolerance)

        def theirs(peer: LogisticRegression = peer) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                peer.fit(x, y)

        seconds = taking_turns(
            times, lambda: fit_logistic(train, penalty=penalty, classes=CLASSES), theirs
        )
        fitted = torch.from_numpy(peer.coef_), torch.from_numpy(peer.intercept_)
        gap = loss(*fitted, exact, penalty) / best - 1
        if not own <= max(gap, 0) + EQUAL:
            raise SystemExit(f"our loss is {own:.1e} above the optimum, scikit-learn's {gap:.1e}")
        row(
            f"logistic regression, C = 1, float32; its tolerance {tolerance:g}",
            spectrum,
            seconds,
            f"loss above the optimum {own:.0e} and {gap:.0e}, after {ours.iterations} and "
            f"{peer.n_iter_[0]} steps",
        )
    chosen = taking_turns(rounds, lambda: fit_chosen(train, LogisticProbeConfig(), classes=CLASSES))
    row("`linear-lbfgs`: 11 penalties tried, the best one fit", spectrum, chosen, "")


def loss(weight: torch.Tensor, bias: torch.Tensor, train: Features, penalty: float) -> float:
    scores = train.features @ weight.double().T + bias.double()
    return (F.cross_entropy(scores, train.labels) + penalty / 2 * weight.square().sum()).item()


def nearest(train: Features, test: Features, spectrum: str, rounds: int) -> None:
    """5-nn predictions, scikit-learn's brute force."""
    peer = KNeighborsClassifier(5, algorithm="brute")
    peer.fit(train.features.numpy(), train.labels.numpy())
    said: dict[str, torch.Tensor] = {}

    def ours() -> None:
        said["ours"] = knn_votes(train, test).argmax(1)

    def theirs() -> None:
        said["theirs"] = torch.from_numpy(peer.predict(test.features.numpy()))

    seconds = taking_turns(rounds, ours, theirs)
    other = (said["ours"] != said["theirs"]).nonzero()[:, 0]
    for query in other.tolist():
        far = torch.cdist(test.features[[query]].double(), train.features.double())[0]
        fifth, sixth = far.topk(6, largest=False).values[4:]
        if fifth < sixth:
            raise SystemExit(f"query {query} is predicted otherwise by scikit-learn")
    row("5-nn", spectrum, seconds, f"predictions, {len(other)} of {len(test.labels):,} differ")


if __name__ == "__main__":
    main()
