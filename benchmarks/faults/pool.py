"""Run fast clouds in parallel, each in a separate process."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.util import Finalize

from .fast import FastCloud
from .outcome import Outcome

_clouds: list[FastCloud] = []


def run_fast(seeds: Sequence[int], jobs: int) -> Iterator[Outcome]:
    """Yield the outcomes of the seeds in order, from `jobs` parallel clouds."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start_cloud) as pool:
        yield from pool.map(_run, seeds)


def _start_cloud() -> None:
    cloud = FastCloud().__enter__()
    _clouds.append(cloud)
    # Processes of a pool do not run atexit handlers.
    Finalize(cloud, cloud.close, exitpriority=10)


def _run(seed: int) -> Outcome:
    return _clouds[0].run(seed)
