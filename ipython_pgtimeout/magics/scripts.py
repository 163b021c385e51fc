"""``%%script`` and its children, ``%%bash``, ``%%python3`` and the rest, run by our guards.

All of them call one method of IPython's, `ScriptMagics.shebang`, which reads the options of the line. `Scripts.shebang`
takes its place.
"""

from __future__ import annotations

from subprocess import CalledProcessError
from typing import Any

from IPython.utils._process_common import arg_split

from ..caller.awaiting import wait_until
from ..caller.job import Job
from ..caller.output import Stream
from ..values import InputError
from .guarded import Guarded, raise_unless_exited


class Scripts:
    """The scripts of one shell."""

    def __init__(self, ip: Any, magics: Any, guarded: Guarded) -> None:
        """``magics`` are IPython's `ScriptMagics`."""
        self._ip = ip
        self._magics = magics
        self._guarded = guarded
        self._original = magics.shebang

    def shebang(self, line: str, cell: str) -> None:
        """As IPython's: run the program that ``line`` names, after options, and feed it the cell."""
        args, argv = self._original.parser.parse_known_args(arg_split(line, posix=True))
        if not argv:
            self._original(line, cell)  # raises IPython's own error
            return
        script = (cell if cell.endswith("\n") else cell + "\n").encode("utf8", "replace")
        asked: dict[Stream, str | None] = {"stdout": args.out, "stderr": args.err}
        names = {stream: name for stream, name in asked.items() if name}
        self._ip.user_ns.update(dict.fromkeys(names.values(), ""))
        try:
            if args.bg:
                self._start(argv, script, names, args.proc)
            else:
                self._run(argv, script, names, args.raise_error)
        except (InputError, FileNotFoundError) as error:
            if isinstance(error, InputError) and error.field != "command":
                raise
            print(f"Couldn't find program: {argv[0]!r}")

    def _run(self, argv: list[str], script: bytes, names: dict[Stream, str], raises: bool) -> None:
        result = self._guarded.run(self._guarded.make_spec(argv, stdin=script), frozenset(names))
        self._ip.user_ns.update({name: getattr(result, stream) for stream, name in names.items()})
        raise_unless_exited(result)
        if raises and result.returncode != 0:
            raise CalledProcessError(result.returncode or -9, script)

    def _start(self, argv: list[str], script: bytes, names: dict[Stream, str], name: str | None) -> None:
        readers: dict[Stream, Reader] = {stream: Reader() for stream in names}

        def show(stream: Stream, text: str) -> None:
            if stream in readers:
                readers[stream].data += text.encode("utf-8", "surrogatepass")

        job = Job(self._guarded.make_spec(argv, stdin=script), show)
        if not job.pid and job.result is not None:
            raise_unless_exited(job.result)
        for reader in readers.values():
            reader.job = job
        self._ip.user_ns.update({name: readers[stream] for stream, name in names.items()})
        process = Process(job, readers)
        if name:
            job.name = name
            self._ip.user_ns[name] = process
        self._magics.bg_processes.append(process)  # for %killbgscripts
        self._magics._gc_bg_processes()


class Reader:
    """What a script in the background writes, as `asyncio.StreamReader` reads it: ``await out.read()``."""

    job: Job

    def __init__(self) -> None:
        self.data = bytearray()
        """What has come and was not read yet. A job's thread adds to its end."""

    async def read(self, n: int = -1) -> bytes:
        """``n`` bytes at the most, at least one before the end; without ``n`` all there are until the end."""
        await self._wait_until(lambda: n == 0 or (n > 0 and len(self.data) > 0))
        return self._take(n if n >= 0 else len(self.data))

    async def readline(self) -> bytes:
        """The next line, with its newline; b"" at the end."""
        await self._wait_until(lambda: b"\n" in self.data)
        return self._take(self.data.find(b"\n") + 1 or len(self.data))

    def at_eof(self) -> bool:
        """Whether there is nothing left to read."""
        return self.job.is_over and not self.data

    async def _wait_until(self, condition: Any) -> None:
        await wait_until(self.job.driven, lambda: self.job.is_over or condition())

    def _take(self, size: int) -> bytes:
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken


class Process:
    """A script in the background: its `Job`, as IPython has asyncio's `Process`, of which some methods are awaited."""

    def __init__(self, job: Job, readers: dict[Stream, Reader]) -> None:
        self.job = job
        self._readers = readers

    async def wait(self) -> int | None:
        """Wait until nothing of it is left, and return `returncode`."""
        await self.job
        return self.job.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Wait for it. Returns what was not read yet."""
        await self.job
        return await self._read("stdout"), await self._read("stderr")

    async def _read(self, stream: Stream) -> bytes:
        reader = self._readers.get(stream)
        return getattr(self.job, stream).encode() if reader is None else await reader.read()

    @property
    def stdout(self) -> Reader | str:
        """A stream, if ``--out`` names it; otherwise the text so far."""
        return self._readers.get("stdout") or self.job.stdout

    @property
    def stderr(self) -> Reader | str:
        """The same with ``--err``."""
        return self._readers.get("stderr") or self.job.stderr

    def __getattr__(self, name: str) -> Any:
        return getattr(self.job, name)

    def __repr__(self) -> str:
        return repr(self.job)
