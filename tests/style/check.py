#!/usr/bin/env python3
"""The rules of the repository that no compiler holds, each a test. Prints TAP.

Usage: check.py [ROOT]

Which folder may include what stands in ARCHITECTURE.md; the rest in CONTRIBUTING.md. Every rule is
tried first on tiny trees that break it, and on one that does not, so a rule that can no longer
fail is itself a failure. Reads source files only; builds nothing.
"""

import pathlib
import re
import sys
import tempfile

LIBRARY = ("coro", "core", "uring", "legacy")
FOLDERS = LIBRARY + ("bench",)
CODE = {".c", ".h", ".S", ".cc", ".hpp"}
SCRIPTS = {".sh", ".py", ".build"}
FILE_LINES = 700
FUNCTION_LINES = 70
COLUMNS = 100

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:<([^>]+)>|"([^"]+)")')
READINESS = {"sys/epoll.h", "poll.h", "sys/poll.h", "sys/select.h"}
READINESS_CALL = re.compile(r"\b(p?poll|p?select|epoll_(create1?|ctl|p?wait2?))\s*\(")

# Who may know the readiness calls beside legacy/: those who do not serve with them.
READINESS_EXEMPT = {
    "bench": "the load driver and the doctor are clients",
    "coro/examples": "shows coroutines in a poll loop of the user's own",
    "core/examples": "shows the runtime beside a poll loop of the user's own",
}

# Test folders that mirror no source folder: what they test is the whole.
WHOLE = {"conformance", "style", "embed", "standin", "micro"}


class Tree:
    """The files of a clone, without what a build or a fetch leaves in it."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.paths = sorted(p.relative_to(self.root) for p in self._walk(self.root))

    def _walk(self, folder):
        for path in folder.iterdir():
            if path.is_symlink() or path.name in (".git", "__pycache__"):
                continue
            if path.is_dir():
                made = path.name.startswith("build") or path.name in ("subprojects", ".cache")
                if (folder == self.root and made) or (path / "meson-private").exists():
                    continue
                yield from self._walk(path)
            elif path.is_file():
                yield path

    def lines(self, path):
        text = (self.root / path).read_text(encoding="utf-8", errors="replace")
        return text.splitlines()

    def without_comments(self, path):
        text = "\n".join(self.lines(path))
        return re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: "\n" * m[0].count("\n"), text,
                      flags=re.DOTALL).split("\n")

    def code(self, *folders):
        """Paths of code, below the given folders if any are given."""
        for path in self.paths:
            if path.suffix in CODE and (not folders or path.parts[0] in folders):
                yield path

    def includes(self, *folders):
        """(path, line number, header, whether in quotes) of every #include."""
        for path in self.code(*folders):
            for number, line in enumerate(self.lines(path), 1):
                found = INCLUDE.match(line)
                if found:
                    yield path, number, found[1] or found[2], found[1] is None


def folder_of(path, header, quoted, tree):
    """The folder of ours that a header belongs to, or None if it is not ours."""
    if header in ("weir/coro.h", "weir/coro_inspect.h"):
        return "coro"
    if header.startswith("weir/"):
        return "core"
    first = header.split("/")[0]
    if first in FOLDERS and "/" in header:
        return first
    if quoted and (tree.root / path.parent / header).exists():
        return path.parts[0]
    return None


# --- who may include whom -----------------------------------------------------------------------

ALLOWED = {
    "coro": {"coro"},
    "core": {"coro", "core"},
    "uring": {"coro", "core", "uring"},
    "legacy": {"coro", "core", "legacy"},
}


def folders_know_only_those_below(tree):
    for path, number, header, quoted in tree.includes(*LIBRARY):
        own = path.parts[0]
        if "examples" in path.parts:
            continue
        target = folder_of(path, header, quoted, tree)
        if target and target not in ALLOWED[own]:
            yield f"{path}:{number}: {own}/ must not include {header} of {target}/"


def bench_and_examples_use_public_headers(tree):
    for path, number, header, quoted in tree.includes(*FOLDERS):
        if path.parts[0] != "bench" and "examples" not in path.parts:
            continue
        target = folder_of(path, header, quoted, tree)
        if target and target != "bench" and not header.startswith("weir/"):
            yield f"{path}:{number}: {header} is internal to {target}/"
        if target == "bench" and path.parts[0] != "bench":
            yield f"{path}:{number}: an example must not need bench/"


def only_uring_knows_liburing(tree):
    for path, number, header, _ in tree.includes(*FOLDERS):
        if path.parts[0] != "uring" and header in ("liburing.h", "linux/io_uring.h"):
            yield f"{path}:{number}: {header} belongs to uring/"


def serves_by_completion(path):
    return path.parts[0] != "legacy" and not any(
        str(path).startswith(exempt + "/") for exempt in READINESS_EXEMPT)


def only_legacy_knows_readiness(tree):
    for path, number, header, _ in tree.includes(*FOLDERS):
        if header in READINESS and serves_by_completion(path):
            yield f"{path}:{number}: {header} belongs to legacy/"
    for path in tree.code(*FOLDERS):
        if serves_by_completion(path):
            for number, line in enumerate(tree.without_comments(path), 1):
                call = READINESS_CALL.search(line)
                if call:
                    yield f"{path}:{number}: {call[1]}() belongs to legacy/"


def public_headers_include_public_headers(tree):
    for path, number, header, quoted in tree.includes(*LIBRARY):
        if "include" in path.parts and quoted:
            yield f'{path}:{number}: "{header}" is not installed; a public header includes <...>'


# --- what a file looks like ---------------------------------------------------------------------

def files_are_short(tree):
    for path in tree.code():
        count = len(tree.lines(path))
        if count > FILE_LINES:
            yield f"{path}: {count} lines; {FILE_LINES} is the most"


def files_open_with_what_lives_there(tree):
    for path in tree.code():
        lines = tree.lines(path)
        if not lines or not lines[0].startswith(("/*", "//")):
            yield f"{path}:1: does not open with a comment that says what lives there"


def text_paths(tree):
    for path in tree.paths:
        if path.suffix in CODE | SCRIPTS | {".ini", ".txt"} or path.parts[0] in ("ci", ".ci"):
            yield path


def no_tabs(tree):
    for path in text_paths(tree):
        for number, line in enumerate(tree.lines(path), 1):
            if "\t" in line:
                yield f"{path}:{number}: a tab"


def lines_are_narrow(tree):
    for path in text_paths(tree):
        # Its table has a row for each need and a column for each package manager.
        if path == pathlib.Path("ci/install"):
            continue
        for number, line in enumerate(tree.lines(path), 1):
            if len(line) > COLUMNS:
                yield f"{path}:{number}: {len(line)} columns; {COLUMNS} is the most"


def functions(tree):
    """(path, first line, lines) of every function: a brace alone opens it, one closes it."""
    for path in tree.code():
        if path.suffix not in (".c", ".h", ".cc"):
            continue
        opened = None
        lines = tree.lines(path)
        for number, line in enumerate(lines, 1):
            if line == "{":
                opened = number
            elif opened and line.startswith("}"):
                yield path, opened, lines[opened - 1:number]
                opened = None


def functions_are_short(tree):
    for path, number, lines in functions(tree):
        if len(lines) > FUNCTION_LINES:
            yield f"{path}:{number}: a function of {len(lines)} lines; {FUNCTION_LINES} is the most"


def no_conditionals_in_functions(tree):
    for path, number, lines in functions(tree):
        for offset, line in enumerate(lines):
            if re.match(r"\s*#\s*(if|ifdef|ifndef|elif|else)\b", line):
                yield f"{path}:{number + offset}: {line.strip()} inside a function"


def tests_mirror_the_folders(tree):
    for path in tree.code("tests"):
        folder = path.parts[1] if len(path.parts) > 2 else None
        if folder is None:
            yield f"{path}: a test lives in a folder that mirrors a source folder"
        elif folder not in WHOLE and not (tree.root / folder).is_dir():
            yield f"{path}: there is no {folder}/ that it tests"


# --- each rule, trees that break it, one that does not --------------------------------------------

OPEN = "/* What lives here. */\n"


def rule(check, name, bad, good):
    return {"check": check, "name": name, "bad": bad, "good": good}


RULES = [
    rule(folders_know_only_those_below, "a folder includes only those below it",
         [{"coro/a.c": '#include "core/engine.h"\n'}, {"coro/a.c": "#include <weir/weir.h>\n"},
          {"core/a.c": '#include "uring/ring.h"\n'}, {"core/a.c": '#include "legacy/epoll.h"\n'},
          {"uring/a.c": '#include "legacy/epoll.h"\n'},
          {"legacy/a.c": '# include "uring/ring.h"\n'}, {"uring/a.c": '#include "bench/cli.h"\n'}],
         {"coro/a.c": '#include <weir/coro.h>\n#include "coro/pool.h"\n#include <stdio.h>\n',
          "coro/b.c": "#include <weir/coro_inspect.h>\n",
          "uring/a.c": '#include "core/engine.h"\n', "core/a.c": "#include <weir/coro.h>\n"}),
    rule(bench_and_examples_use_public_headers, "bench and the examples use public headers only",
         [{"bench/a.c": '#include "core/engine.h"\n'}, {"bench/a.c": '#include "uring/ring.h"\n'},
          {"coro/examples/a.c": '#include "coro/pool.h"\n'},
          {"core/examples/a.c": '#include "bench/cli.h"\n'}],
         {"bench/a.c": '#include <weir/weir.h>\n#include "bench/cli.h"\n#include "b.h"\n',
          "bench/b.h": OPEN, "core/examples/a.c": "#include <weir/weir.h>\n"}),
    rule(only_uring_knows_liburing, "only uring includes liburing",
         [{"core/a.c": "#include <liburing.h>\n"}, {"bench/a.c": "#include <linux/io_uring.h>\n"}],
         {"uring/a.c": "#include <liburing.h>\n", "tests/uring/a.c": "#include <liburing.h>\n"}),
    rule(only_legacy_knows_readiness, "only legacy includes the readiness calls to serve",
         [{"core/a.c": "#include <sys/epoll.h>\n"}, {"core/a.c": "#include <poll.h>\n"},
          {"uring/a.c": "#include <poll.h>\n"},
          {"coro/a.c": "#include <sys/select.h>\n"}, {"core/a.c": "n = poll(&fd, 1, -1);\n"},
          {"uring/a.c": "/* one\ntwo */ epoll_wait (fd, e, 1, 0);\n"}],
         {"legacy/a.c": "#include <sys/epoll.h>\n", "coro/examples/a.c": "#include <poll.h>\n",
          "uring/a.c": "/* unlike\npoll() */\nweir_poll(c, WEIR__POLL_IN);\n",
          "bench/driver.c": "#include <sys/epoll.h>\n"}),
    rule(public_headers_include_public_headers, "a public header includes only installed headers",
         [{"core/include/weir/a.h": '#include "core/engine.h"\n'}],
         {"core/include/weir/a.h": "#include <weir/coro.h>\n"}),
    rule(files_are_short, f"no file is longer than {FILE_LINES} lines",
         [{"core/a.c": "\n" * (FILE_LINES + 1)}], {"core/a.c": "\n" * FILE_LINES}),
    rule(files_open_with_what_lives_there, "a file opens with what lives there",
         [{"core/a.c": "#include <stdio.h>\n"}, {"core/a.h": ""}], {"core/a.c": OPEN}),
    rule(no_tabs, "no tabs",
         [{"core/a.c": "\tint a;\n"}, {"core/meson.build": "\tfoo\n"}, {"ci/test": "a\tb\n"}],
         {"core/a.c": "    int a;\n"}),
    rule(lines_are_narrow, f"no line is wider than {COLUMNS} columns",
         [{"core/a.c": "x" * (COLUMNS + 1)}, {"ci/test": "x" * (COLUMNS + 1)}],
         {"core/a.c": "x" * COLUMNS, "core/b.c": "\u00e9" * COLUMNS}),
    rule(functions_are_short, f"no function is longer than {FUNCTION_LINES} lines",
         [{"core/a.c": "int f(void)\n{\n" + "    g();\n" * (FUNCTION_LINES - 1) + "}\n"}],
         {"core/a.c": "int f(void)\n{\n" + "    g();\n" * (FUNCTION_LINES - 2) + "}\n",
          "core/b.c": "struct a {\n" + "    int b;\n" * 80 + "};\n"}),
    rule(no_conditionals_in_functions, "no #if inside a function",
         [{"core/a.c": "int f(void)\n{\n#ifdef A\n    g();\n#endif\n}\n"},
          {"core/a.h": "static inline int f(void)\n{\n#  if A\n#endif\n}\n"}],
         {"core/a.c": "#ifdef A\nint f(void)\n{\n    g();\n}\n#endif\n"}),
    rule(tests_mirror_the_folders, "a folder of tests mirrors a folder of sources",
         [{"tests/nothing/a.c": OPEN}, {"tests/a.c": OPEN}],
         {"tests/core/a.c": OPEN, "core/a.c": OPEN, "tests/conformance/a.c": OPEN}),
]


def plant(root, files):
    for name, text in files.items():
        path = pathlib.Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Tree(root)


def blind_spots(entry):
    """Why the rule itself does not work, on the trees made for it."""
    for files in entry["bad"]:
        with tempfile.TemporaryDirectory() as root:
            if not list(entry["check"](plant(root, files))):
                yield f"the rule does not see {files}"
    with tempfile.TemporaryDirectory() as root:
        for complaint in entry["check"](plant(root, entry["good"])):
            yield f"the rule complains of a good tree: {complaint}"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    tree = Tree(root)
    failures = number = 0
    for entry in RULES:
        for what, complaints in ((entry["name"], entry["check"](tree)),
                                 (entry["name"] + " (the rule itself)", blind_spots(entry))):
            number += 1
            complaints = list(complaints)
            failures += bool(complaints)
            print(f"{'not ok' if complaints else 'ok'} {number} - {what}")
            for complaint in complaints:
                print(f"# {complaint}")
    print(f"1..{number}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
