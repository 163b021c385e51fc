"""%timeout_shell leaves everything as IPython has it: the same cells in two kernels, one of them with a deadline.

Compared are the text of each stream, the error, the value, and the variables after the cell. What is known to differ
stands in `DIFFERENT`, with its reason, and is shown to differ.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import IPython
import pytest

from .kernels import LOAD, Kernel, Reply
from .tallies import SAME_CELLS, Compared

SETUP = """
import logging, os, signal, sys
# asyncio, which IPython uses, logs a broken pipe some time after a script that has not read all of its stdin.
logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
name, n, words, table = "Ada", 7, ["a b", "c"], {"k": "v"}
os.environ["EXPORTED"] = "from the kernel"
ip = get_ipython()
for path, text, mode in (
    ("data.txt", "one 1\\ntwo 2\\nthree 3\\n", 0o644),
    ("no_format", "\\0\\1\\2", 0o755),
    ("no_interpreter", "#!/does/not/exist\\n", 0o755),
):
    open(path, "w").write(text)
    os.chmod(path, mode)

def _tell_variables(result):
    # After each cell: print the variables that it has left, of plain types, and delete them.
    plain = (str, bytes, int, float, list, tuple, dict, type(None))
    new = {
        key: (type(value).__name__, value)
        for key, value in sorted(ip.user_ns.items())
        if (not key.startswith("_") or key == "_exit_code") and isinstance(value, plain) and key not in _before
    }
    print(chr(30), new, sep="", flush=True)
    for key in new:
        del ip.user_ns[key]

_before = {*globals()}
ip.events.register("post_run_cell", _tell_variables)
"""

COMMANDS = [
    "echo plain",
    "true",
    "false",
    "exit 3",
    "exit 126",
    "exit 130",
    "exit 200",
    "kill -9 $$",
    "kill -TERM $$",
    "echo out; echo err >&2; echo out again",
    "echo err >&2; exit 4",
    "echo 'single $n {n}'",
    'echo "double $n {name}"',
    "echo {n} {name!r} {n + 1} {words[0]} {table['k']}",
    "echo $name/$n ${name} $table",
    "echo {{n}} $$EXPORTED $$n",
    "echo {undefined} $undefined {1 / 0}",
    "echo {n:03d} {'x' * 3}",
    "echo } { {} '{'",
    "echo ünïcödé → 😀",
    "printf 'no newline'",
    "printf 'one\\n\\n\\ntwo\\n\\n'",
    "printf 'a\\tb\\000c\\n'",
    "printf '\\377\\376 is not UTF-8\\n'",
    "printf 'a\\r\\nb\\rc\\n'",
    "printf '\\033[31mred\\033[0m\\n'",
    "printf 'form\\ffeed \\342\\200\\250 separator\\n'",
    "no_such_program_here argument",
    "ls data.txt no_such_file",
    "cat data.txt | sort -r | head -n 1",
    "cat data.txt > copy.txt; wc -l < copy.txt; rm copy.txt",
    "echo $0",
    "test -t 1; echo $?; test -t 2; echo $?; stty size < /dev/stdout",
    "for i in 1 2 3; do echo $i; done",
    "echo a & wait; echo b",
    "sleep 0.1 &",
    "echo refused &  ",
    "echo 'a' && false || echo 'c'",
    "pwd; cd /; pwd",
    "umask; ulimit -n",
    "seq 2000",
    "trap 'echo bye' EXIT; exit 5",
    "exec echo replaced",
    "if",
    "echo \\\\ \\\" \\'",
    "# nothing",
    "echo a # comment",
    "printenv EXPORTED TERM; printenv HOME > /dev/null; echo $?",
    "{name}",
    "cat < /dev/null; echo $?",
    "(exit 7)",
    "nice; ps -o ni= -p $$ | wc -l",
]
"""Run in each of `FORMS`."""
FORMS = {
    "!": "!{line}",
    "!!": "!!{line}",
    "x = !": "x = !{line}",
    "getoutput": "def f(name, n):\n    return ip.getoutput({line!r})\nf('local', 8)",
}
CAPTURING = ("!!", "x = !")
WITHOUT_STDIN = ["read x; echo $?:$x", "cat; echo $?", "wc -c", "python3 -S -c 'input()'"]
"""Run in the forms that are `CAPTURING`: with `!` they wait for ever."""

LINES: list[str | tuple[str, ...]] = [
    "!",
    "!!",
    "x = !",
    "!   ",
    "%sx",
    "%sx cat; echo {n} $name; exit 3",
    "%sx sleep 1 &",
    "%system",
    "%system cat; echo {n} $name; exit 3",
    "def f(name):\n    return get_ipython().run_line_magic('sx', 'echo $name')\nf('local')",
    "def f(name):\n    !echo $name; exit 3\n    x = !echo {name} {n}\n    y = %sx echo {name}\n    return x + y\n"
    "f('local')",
    "x = !cat data.txt\nx.n, x.s, x.l, x.p, x.spstr, x.nlstr",
    "x = !cat data.txt\nx.grep('t'), x.grep('t', prune=True), x.grep(lambda line: len(line) > 5), x.grep('1', field=1)",
    "x = !cat data.txt\nx.fields(0), x.fields(1, 0), x.fields()",
    "x = !cat data.txt\nx.sort(1, nums=True), x.sort(0)",
    "x = !cat data.txt\ntype(x).__mro__[0].__name__, len(x), x[1:], x + ['more']",
    "x = ip.getoutput('cat data.txt', split=False)\ntype(x).__name__, x, x.n, x.l, x.s",
    "ip.getoutput('echo {n}', split=True, depth=0)",
    "def outer(n):\n    def inner():\n        return ip.getoutput('echo {n}', depth=1)\n    return inner()\nouter(99)",
    "def outer(n):\n    def inner():\n        return ip.getoutput('echo {n}')\n    return inner()\nouter(99)",
    "def f(depth, n=5):\n    return ip.getoutput('echo {n}', depth=depth)\n[f(depth) for depth in range(4)]",
    "a, b = !printf '1\\n2\\n'",
    "class C:\n    n = 5\n    x = !echo {n}\nC.x",
    "[ip.getoutput('echo {i}') for i in range(3)]",
    "for i in range(3):\n    !echo {i}",
    "for i in range(3):\n    x = !exit {i}\n    print(_exit_code if '_exit_code' in globals() else None)",
    "if n == 7:\n    x = !echo {n}\nelse:\n    !false",
    "with open('data.txt') as file:\n    !cat {file.name}",
    "!echo one \\\n  two \\\n  three",
    "x = !echo one \\\n  two",
    "!echo a\n!exit 2\nprint(_exit_code)\n!echo b",
    "print('before')\n!echo between\nprint('after')",
    "print('no newline', end='')\n!echo between",
    "sys.stderr.write('error\\n')\n!echo out\nNone",
    "print(ip.system('echo value'), ip.system('exit 3'))",
    "print(repr(!echo 1))",
    "!echo hi;",
    "x = !echo hi;\nx",
    "!!echo hi;",
    "_exit_code = 5\nx = !exit 3\n_exit_code",
    "%%sx\necho a\necho b {n}",
    "%%system\necho a; exit 3",
    "%%!\necho a\necho $name",
    "%%sx --out y\necho captured",
    "%%system -o y\necho captured\n",
    "%%capture captured\n!echo {n}\n!echo err >&2",
    "%%capture captured\n%%bash\necho out; echo err >&2\n",
    "%sc -l y=cat data.txt",
    "%sc y=echo {n}",
    ("%alias hello echo hello %s from %s", "hello a b", "%hello a b", "hello a", "%unalias hello"),
    ("%cat data.txt", "%mkdir made", "%ls -d made", "%rmdir made"),
    "!cd /\n!pwd",
    "%cd /\n!pwd\n%cd -",
    ("%env ADDED=1 2\n!echo $$ADDED\nx = !echo $$ADDED\nx", "del os.environ['ADDED']\n!echo [$$ADDED]"),
    "os.environ['PATH'], old = '/nowhere', os.environ['PATH']\n!ls\nx = !ls\nos.environ['PATH'] = old\nx",
    "old = os.umask(0o22)\n!umask\nx = !umask\nos.umask(old)\nx",
    "ip.system('')",
    "def f(name, n):\n    ip.system('echo {name} $n {words}; exit 3')\nf('local', 8)",
    "ip.system('echo a\\necho b')",
    "ip.getoutput('echo a\\n\\necho b\\n')",
    "ip.system(3)",
    "ip.getoutput(None)",
    "ip.system()",
    "ip.getoutput('echo', nonsense=1)",
    "ip.system_piped('exit 2')",
    "ip.system_raw('exit 2')",
    "sys.stdout.flush()\nold, sys.stdout = sys.stdout, __import__('io').StringIO()\n!echo into a file\n"
    "text, sys.stdout = sys.stdout.getvalue(), old",
    "import threading\nt = threading.Thread(target=ip.system, args=('echo in a thread; exit 3',))\n"
    "t.start(); t.join()\n_exit_code",
    "t = threading.Thread(target=lambda: found.extend(ip.getoutput('echo in a thread')))\nfound = []\n"
    "t.start(); t.join()",
    "import asyncio\nasync def f(n):\n    x = !echo {n}\n    return x\n"
    "await f(3), await asyncio.to_thread(ip.getoutput, 'echo 4')",
    "try:\n    !sleep 1 &\nexcept OSError as error:\n    print(error)",
    (
        "%config ZMQInteractiveShell.system_raise_on_error = True",
        "!exit 3",
        "x = !exit 3",
        "x = !echo out; echo err >&2",
        "!!false",
        "!true",
        "x = !kill -9 $$",
        "%config ZMQInteractiveShell.system_raise_on_error = False",
    ),
    "?ip.getoutput\n1",
    "import inspect\ninspect.signature(ip.system), inspect.signature(ip.getoutput), inspect.getdoc(ip.getoutput)[:20]",
]

BODIES = [
    "echo out",
    "echo out; echo err >&2",
    "exit 3",
    "exit 200",
    "false",
    "false; true",
    "kill -9 $$",
    "kill -TERM $$",
    'read x; echo "got <$x>"\nthis line is eaten\necho after',
    "cat\nthe rest is printed by cat {n} $name",
    "echo $name {n} $$ > /dev/null; echo $name {n}",
    "echo ünïcödé → 😀",
    "printf '\\377 is not UTF-8'",
    "printf 'no newline'",
    "printf 'a\\r\\nb\\rc\\n'",
    "for i in 1 2 3; do\n  echo $i\ndone\n\n# comment",
    'echo "$0" $#',
    "cd /; pwd",
    "no_such_program_here",
    "sleep 0.2 & echo started",
    "(sleep 0.2; echo late) & exit 2",
    "set -e; echo a; false; echo never",
    "if",
    "seq 2000",
    "test -t 0; echo $?; test -t 1; echo $?",
    "cat < /dev/null; echo $EXPORTED",
    "exec 2>&1; echo err >&2",
    "python3 -c 'import sys; print(sys.stdin.read())'\nfed to python",
    "\n\n",
    "echo a; exit 0\nnot reached",
]
PYTHON = [
    "print(1 + 1)",
    "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)",
    "raise ValueError('no')",
    "import sys; print(sys.argv, sys.stdin.isatty(), sys.stdin.read())",
    "print('ünï 😀')",
    "import os; os.kill(os.getpid(), 9)",
    "x = 1\nif x:\n    print('indented')\n\nprint('after')",
    "print(",
]
MIXED = "echo out; echo err >&2; exit 2"
SCRIPTS: list[str | tuple[str, ...]] = [
    *(f"%%{shell}\n{body}" for shell in ("bash", "sh") for body in BODIES),
    *(f"%%script bash\n{body}" for body in BODIES[:10]),
    *(f"%%python3 -S -E\n{body}" for body in PYTHON),
    *(f"%%{python}\n{PYTHON[1]}" for python in ("python", "script python3 -u")),
    *(
        f"%%bash {options}\n{MIXED}"
        for options in (
            "--no-raise-error",
            "--out o",
            "--err e",
            "--out o --err e",
            "--out o --no-raise-error",
            "--out o --err e --no-raise-error",
            "--err e --no-raise-error -e",
            "--proc p",
            "--no-raise-error -s a b",
            "-x",
            "--o o",
            "--out",
            "--bogus",
            "--out o --out o2",
        )
    ),
    "%%bash --out o\necho a\necho b",
    "%%bash --out o --err e\ntrue",
    "%%bash -s 'a b' c\necho $1 / $2",
    "%%bash -s {n} $name\necho $1 / $2",
    "%%bash -s '{n}' \"$name\"\necho $1 / $2",
    "%%bash --out {name}\necho into the variable",
    "%%script bash -c 'cat; echo done $0' zero\nfed",
    "%%script cat\nfed\n",
    "%%script cat\nfed",
    "%%script cat\nünï 😀 {n} $name",
    "%%script wc -c\n12345",
    "%%script tr a-z A-Z\nupper",
    "%%script --out o tr a-z A-Z\nupper",
    '%%script python3 -c "import sys; print(sys.stdin.read().upper())"\nupper',
    "%%script true\nnobody reads this",
    "%%script false\nnobody reads this",
    "%%script --no-raise-error false\nnobody reads this",
    "%%script head -n 1\n" + "a long line of text\n" * 20_000,
    "%%script no_such_program_here -x\nx",
    "%%script ./no_such_file\nx",
    "%%script ./data.txt\nx",
    "%%script /\nx",
    "%%script ./no_format\nx",
    "%%script ./no_interpreter\nx",
    "%%script --out o no_such_program_here\nx",
    "%%script --bg no_such_program_here\nx",
    "%%script --bg ./data.txt\nx",
    "%%script\nx",
    "%%script --out o\nx",
    "%%script 'not closed\nx",
    "%%script bash",
    "%%bash",
    "%%bash --help\nx",
    "ip.run_cell_magic('bash', '', 'echo from Python; exit 2')",
    "ip.run_cell_magic('bash', '--out o', 'echo from Python')",
    "def f(n):\n    ip.run_cell_magic('bash', '-s {n}', 'echo $1')\nf('local')",
    ("%alias_magic --cell mine bash -p '--out o'", "%%mine\necho aliased"),
    "for i in range(2):\n    ip.run_cell_magic('script', f'echo {i}', 'x')",
    "import threading\nt = threading.Thread(target=ip.run_cell_magic, args=('bash', '--out o', 'echo in a thread'))\n"
    "t.start(); t.join()",
]
BACKGROUND = [
    ("%%bash --bg\necho nobody sees this",),
    ("%%bash --bg --proc p\nexit 3", "code = await p.wait()\ncode, p.returncode, p.pid > 0"),
    (
        "%%bash --bg --proc p --out o\necho one; echo two; exit 0",
        "first = await o.readline()\nrest = await o.read()\nfirst, rest, await o.read(), o.at_eof()",
        "await p.wait()",
    ),
    ("%%bash --bg --out o --err e\necho out; echo err >&2", "await o.read(), await e.read()"),
    ("%%bash --bg --out o\nprintf 12345; sleep 0.3; printf 67890", "await o.read(3), await o.read(0), await o.read()"),
    ("%%bash --bg --out o\nread x; echo $x\nfed", "await o.read()"),
    ("%%bash --bg --proc p\nexec sleep 60", "p.returncode, p.terminate(), await p.wait(), p.returncode"),
    ("%%bash --bg --proc p\nexec sleep 60", "p.kill(), await p.wait()"),
    ("%%bash --bg --proc p\nexec sleep 60", "p.send_signal(signal.SIGHUP), await p.wait()"),
    (
        "%%bash --bg --proc p --out o\necho before; exec sleep 60",
        "await o.readline()",
        "%killbgscripts",
        "await p.wait() < 0",
    ),
    ("%%python3 --bg --out o\nprint('from Python', 1 + 1)", "await o.read()"),
    ("%%bash --bg --proc p --out o --err e\necho out; echo err >&2", "await p.communicate()"),
]


class Difference(NamedTuple):
    """Cells of which the last differs: what is seen of it in IPython alone, what with the deadline, and why."""

    codes: tuple[str, ...]
    original: str
    guarded: str
    reason: str


DAEMON = "(setsid sh -c 'echo $$ > pid; exec sleep 2' > /dev/null 2>&1 &); until [ -s pid ]; do sleep 0.02; done"
IS_THERE = "\npid = open('pid').read().strip(); os.remove('pid'); is_there = os.path.exists('/proc/' + pid)\nis_there"
SPLIT = "printf '\\303'; sleep 1; printf '\\251 and the rest\\n'"
IN_BACKGROUND = "%%bash --bg --proc p --out o\n"
DIFFERENT = [
    Difference(("!yes | head -n 1",), "Broken pipe", "y", "IPython starts it with SIGPIPE ignored"),
    *(
        Difference((f"ip.{call}{IS_THERE}",), "True", "False", "a command is over when all its processes are")
        for call in (f"system({DAEMON!r})", f"run_cell_magic('bash', '', {DAEMON!r})")
    ),
    Difference((f"!{SPLIT}",), "\ufffd", "é and the rest", "IPython decodes each piece of the output by itself"),
    Difference(
        (f"%%bash\n{SPLIT}",),
        "\ufffd" if IPython.version_info < (9,) else "",
        "é and the rest",
        "a piece that is half a character is lost, or ends what is shown",
    ),
    Difference(("!!ps -o sid= -p $$ | grep -cw $$",), "['0']", "['1']", "it is the leader of a session"),
    Difference(("%%script .\nx",), "PermissionError", "Couldn't find program: '.'", "a directory has this name"),
    Difference(
        (f"{IN_BACKGROUND}printf '\\377'", "await o.read()"),
        "b'\\xff'",
        "b'\\xef\\xbf\\xbd'",
        "the output of a job is text",
    ),
    Difference(
        (f"{IN_BACKGROUND}true", "type(p).__name__, type(o).__name__"), "_AsyncIOProxy", "Reader", "it is a job"
    ),
    Difference(("%%bash --bg --proc p\necho out", "await p.wait()\np.stdout"), "_AsyncIO", "'out\\n'", "without --out"),
    Difference(("ip.system.__func__ is type(ip).system",), "True", "False", "it is what is replaced"),
]


class Outcome(NamedTuple):
    """What a user can see of a cell, and what it has left."""

    stdout: str
    stderr: str
    ename: str
    evalue: str
    value: str
    variables: str


def _groups() -> list[tuple[str, ...]]:
    """The cells, in groups of those that belong together, the others ten at a time."""
    made = [tuple(form.format(line=line) for form in FORMS.values()) for line in COMMANDS]
    made += [tuple(FORMS[form].format(line=line) for form in CAPTURING) for line in WITHOUT_STDIN]
    cells = [each for each in LINES + SCRIPTS if isinstance(each, str)]
    made += [tuple(cells[start : start + 10]) for start in range(0, len(cells), 10)]
    made += [each for each in LINES + SCRIPTS if isinstance(each, tuple)]
    made += BACKGROUND
    if shutil.which("perl"):
        made.append(("%%perl\nprint 'from perl', \"\\n\"; exit 3", "%%perl --out o\nprint <STDIN>;\n__END__\nrest"))
    return made


GROUPS = _groups()
OLD_OUT = [
    "%%bash --out o\necho a\necho b",
    "%%bash --out o --err e\ntrue",
    "%%script --out o no_such_program_here\nx",
]
"""IPython 8 keeps the last 100 bytes for ``--out`` and ``--err``, and sets no variable if there is no output."""


@dataclass
class Pair:
    """Two kernels, of which the second has a deadline for every command. They differ in nothing else."""

    kernels: tuple[Kernel, Kernel]
    directories: tuple[str, str]

    def run(self, cell: str) -> tuple[Outcome, Outcome]:
        """Run the cell in both at the same time. Cell by cell: ipykernel 7 can lose one of many that wait."""
        replies = [kernel.submit(cell) for kernel in self.kernels]
        original, guarded = (
            _outcome(kernel.wait(reply), directory)
            for kernel, directory, reply in zip(self.kernels, self.directories, replies, strict=True)
        )
        return original, guarded


def _outcome(reply: Reply, directory: str) -> Outcome:
    stdout, _, variables = reply.stdout.rpartition(chr(30))
    seen = (stdout, reply.stderr, reply.ename, reply.evalue, reply.result, variables)
    return Outcome(*(text.replace(directory, "<here>") for text in seen))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with (
        tempfile.TemporaryDirectory() as one,
        tempfile.TemporaryDirectory() as other,
        Kernel(SETUP, cwd=one) as original,
        Kernel(LOAD, "%timeout_shell 60", SETUP, cwd=other) as guarded,
    ):
        yield Pair((original, guarded), (one, other))


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0][:60])
def test_cells_do_what_they_do_without_a_deadline(pair: Pair, group: tuple[str, ...]) -> None:
    for cell in group:
        original, guarded = pair.run(cell)
        SAME_CELLS.append(Compared(cell.partition("\n")[0][:60], guarded == original))
        if not (cell in OLD_OUT and IPython.version_info < (9,)):
            assert guarded == original, cell


@pytest.mark.parametrize("difference", DIFFERENT, ids=lambda difference: difference.codes[0][:60])
def test_what_differs_is_known(pair: Pair, difference: Difference) -> None:
    original, guarded = [pair.run(cell) for cell in difference.codes][-1]
    assert original != guarded
    assert difference.original in "\n".join(original)
    assert difference.guarded in "\n".join(guarded)
