#!/usr/bin/env python3
"""What the shared libraries export: names that begin with weir_ and are not internal. Prints TAP.

Usage: symbols.py BUILD_ROOT NM

Reads every libweir*.so below the build root with nm. That the check can fail is tried on tables
made up here.
"""

import pathlib
import subprocess
import sys

# The linker's own, and what a sanitizer adds to each library.
NOT_OURS = ("_init", "_fini", "_edata", "_end", "__bss_start", "__asan_", "__odr_asan", "__tsan_",
            "__ubsan_", "__gcov_", "__llvm_")


def complaints(table):
    """The names of an `nm -D --defined-only` table that should not be there."""
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 2:
            continue
        name = fields[-1].split("@")[0]
        if name.startswith("weir__"):
            yield f"{name} is internal, yet exported"
        elif not name.startswith("weir_") and not name.startswith(NOT_OURS):
            yield f"{name} is exported, and does not begin with weir_"


def exports(table):
    return [line for line in table.splitlines() if " weir_" in line]


def table_of(nm, library):
    return subprocess.run([nm, "-D", "--defined-only", str(library)], check=True, text=True,
                          stdout=subprocess.PIPE, timeout=30).stdout


def main(build_root, nm):
    results = []
    bad = ["0000 T weir__loop_turn\n", "0000 T loop_turn\n", "0000 D io_uring_setup\n",
           "0000 B weirdness\n"]
    good = "0000 T weir_loop_new\n0000 T weir_loop_free@@WEIR_1\n0000 B __bss_start\n"
    results.append(("the check sees an internal and a foreign name",
                    [f"not seen: {table}" for table in bad if not list(complaints(table))]
                    + list(complaints(good))))
    libraries = [path for path in sorted(pathlib.Path(build_root).rglob("libweir*.so"))
                 if "subprojects" not in path.parts]
    for library in libraries:
        table = table_of(nm, library)
        results.append((f"{library.name} exports only weir_ names", list(complaints(table))))
        results.append((f"{library.name} exports its interface",
                        [] if exports(table) else ["it exports nothing"]))
    failures = 0
    for number, (name, said) in enumerate(results, 1):
        failures += bool(said)
        print(f"{'not ok' if said else 'ok'} {number} - {name}")
        for line in said:
            print(f"# {line}")
    if not libraries:
        results.append(None)
        print(f"ok {len(results)} - shared libraries # SKIP this build has none")
    print(f"1..{len(results)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
