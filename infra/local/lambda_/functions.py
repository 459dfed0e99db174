"""Lambda functions and their pools of warm execution environments."""

import hashlib
import io
import json
import threading
import zipfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import LocalCloudError
from ..iam.enforcement import Session
from .environment import Environment, FunctionSpec, Invocation, LogSink

# Per function, to limit the load on the machine. AWS's default is 1,000 in an account.
MAX_CONCURRENCY = 8

# (role ARN, session name) -> temporary credentials
Assume = Callable[[str, str], Session]


class Functions:
    """The execution environments of every function, and their past invocations."""

    def __init__(
        self,
        *,
        python: Path,
        work: Path,
        endpoint: str,
        log: LogSink,
        assume: Assume,
        on_invocation: Callable[[FunctionSpec, Invocation], None] = lambda *_: None,
    ) -> None:
        self._python = python
        self._work = work
        self._endpoint = endpoint
        self._log = log
        self._assume = assume
        self._on_invocation = on_invocation
        self._lock = threading.Lock()
        self._idle: dict[str, list[Environment]] = {}
        self._all: set[Environment] = set()
        self._slots: dict[str, threading.Semaphore] = {}
        self._closed = False
        self.invocations: dict[str, deque[Invocation]] = {}

    def invoke(self, spec: FunctionSpec, payload: bytes) -> Invocation:
        """Invoke a function in an idle warm environment, or in a new one."""
        with self._slot(spec.name):
            environment = self._acquire(spec)
            invocation = environment.invoke(payload)
            if environment.alive:
                with self._lock:
                    self._idle.setdefault(spec.name, []).append(environment)
            else:
                with self._lock:
                    self._all.discard(environment)
            self.invocations.setdefault(spec.name, deque(maxlen=10_000)).append(invocation)
            self._on_invocation(spec, invocation)
            return invocation

    def close(self) -> None:
        """Kill every environment."""
        with self._lock:
            self._closed = True
            environments, self._all = self._all, set()
            self._idle.clear()
        # In parallel: each kill waits until its server's thread has stopped.
        with ThreadPoolExecutor(max_workers=len(environments) or 1) as pool:
            list(pool.map(Environment.kill, environments))

    def _slot(self, name: str) -> threading.Semaphore:
        with self._lock:
            return self._slots.setdefault(name, threading.Semaphore(MAX_CONCURRENCY))

    def _acquire(self, spec: FunctionSpec) -> Environment:
        key = _fingerprint(spec)
        with self._lock:
            if self._closed:
                raise LocalCloudError("the local cloud is stopping")
            idle = self._idle.get(spec.name, [])
            warm = [each for each in idle if each.key == key and each.alive]
            reused = warm.pop() if warm else None
            outdated = {each for each in idle if each is not reused} - set(warm)
            self._idle[spec.name] = warm
            self._all -= outdated
        for each in outdated:
            each.kill()
        if reused:
            return reused
        environment = Environment(
            spec,
            key,
            python=self._python,
            task_root=self._unpack(spec),
            endpoint=self._endpoint,
            session=self._assume(spec.role, spec.name),
            log=self._log,
        )
        with self._lock:
            self._all.add(environment)
        return environment

    def _unpack(self, spec: FunctionSpec) -> Path:
        root = self._work / hashlib.sha256(spec.code).hexdigest()[:16]
        with self._lock:
            if not root.exists():
                with zipfile.ZipFile(io.BytesIO(spec.code)) as archive:
                    archive.extractall(root)
        return root


def _fingerprint(spec: FunctionSpec) -> str:
    """Return a hash of the configuration and code; a change of it requires a new environment."""
    configuration = json.dumps(
        [
            *(spec.name, spec.role, spec.handler, spec.memory_mb, spec.timeout),
            sorted(spec.environment.items()),
        ]
    )
    return hashlib.sha256(configuration.encode() + spec.code).hexdigest()
