#!/usr/bin/env python3
"""Weir in programs that are not Weir's. Prints TAP.

Usage: embed.py SOURCE_ROOT [MESON_OPTION...]     compilers in CC and CXX, as for Meson

Installs Weir into a scratch prefix and builds the programs beside this file against it, by
pkg-config, with the shared libraries and with the archives; then builds them in a foreign project
that has Weir as a Meson subproject, both ways; and runs every one. Touches nothing but its scratch
directory.
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CC = shlex.split(os.environ.get("CC", "cc"))
CXX = shlex.split(os.environ.get("CXX", "c++"))
STRICT = ["-O1", "-g", "-Wall", "-Wextra", "-Werror"]

# name, source, pkg-config packages, what it must be linked with
PROGRAMS = [
    ("an echo server on weir", "echo_server.c", ["weir"], "libweir.so"),
    ("weir-coro in a poll loop", "poll_loop.c", ["weir-coro"], "libweir-coro.so"),
    ("weir-coro in a libuv loop", "libuv_loop.c", ["weir-coro", "libuv"], "libweir-coro.so"),
    ("the headers from C++", "headers.cc", ["weir"], "libweir.so"),
]


class Failed(Exception):
    """A step that did not do what it should; says which and how."""


def run(command, env=None, seconds=240):
    """What the command printed; Failed if it does not exit with 0 in time."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", env=env,
                              timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{shlex.join(words)}: not done in {seconds} s") from late
    if done.returncode != 0:
        raise Failed(f"{shlex.join(words)}: exit {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def has_package(name):
    return subprocess.run(["pkg-config", "--exists", name], check=False).returncode == 0


class Tap:
    """Counts and prints results."""

    def __init__(self):
        self.number = self.failures = 0

    def check(self, name, step):
        self.number += 1
        try:
            said = step() or ""
            print(f"ok {self.number} - {name}", flush=True)
            for line in said.splitlines()[-3:]:
                print(f"# {line}")
            return True
        except Failed as why:
            self.failures += 1
            print(f"not ok {self.number} - {name}", flush=True)
            for line in str(why).splitlines():
                print(f"# {line}")
            return False

    def skip(self, name, reason):
        self.number += 1
        print(f"ok {self.number} - {name} # SKIP {reason}", flush=True)


class Prefix:
    """Weir as installed: how a foreign program is built against it."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.prefix = scratch / "prefix"
        self.libdir = None

    def install(self, source, options):
        build = self.scratch / "build"
        run(["meson", "setup", f"--prefix={self.prefix}", "--buildtype=debugoptimized",
             "-Dtests=disabled", "-Dbench=disabled", "-Ddefault_library=both", *options, build,
             source])
        run(["meson", "install", "-C", build, "--quiet"])
        found = list(self.prefix.rglob("weir.pc"))
        if len(found) != 1:
            raise Failed(f"installed {len(found)} weir.pc below {self.prefix}")
        self.libdir = found[0].parent.parent
        return self.without_paths_of(source)

    def without_paths_of(self, source):
        for path in self.prefix.rglob("*"):
            if path.suffix in (".pc", ".h") and str(source) in path.read_text(encoding="utf-8"):
                raise Failed(f"{path} names the source tree")
        names = sorted(p.name for p in self.prefix.rglob("*") if p.suffix in (".h", ".pc", ".a"))
        for name in ("coro.h", "weir.h", "weir.pc", "weir-coro.pc", "libweir.a", "libweir-coro.a"):
            if name not in names:
                raise Failed(f"{name} is not installed; there are: {' '.join(names)}")
        return " ".join(names)

    def pkg_config(self, *arguments):
        env = dict(os.environ)
        paths = [str(self.libdir / "pkgconfig"), env.get("PKG_CONFIG_PATH", "")]
        env["PKG_CONFIG_PATH"] = ":".join(p for p in paths if p)
        return shlex.split(run(["pkg-config", *arguments], env=env))

    def archives(self):
        """A library directory that holds only the archives, so that the linker takes them."""
        folder = self.scratch / "archives"
        if not folder.exists():
            folder.mkdir()
            for archive in self.libdir.glob("*.a"):
                shutil.copy(archive, folder)
        return folder

    def build(self, program, source, packages, static):
        if static:
            link = self.pkg_config("--static", "--libs", *packages)
            link = [word.replace(f"-L{self.libdir}", f"-L{self.archives()}") for word in link]
        else:
            link = self.pkg_config("--libs", *packages)
        compiler = CXX if source.suffix == ".cc" else CC
        run([*compiler, *STRICT, "-D_GNU_SOURCE", *self.pkg_config("--cflags", *packages), source,
             "-o", program, *link, "-pthread"])


def needs(program):
    """The shared libraries a program asks for."""
    return [line.split("[")[1].rstrip("]") for line in run(["readelf", "-d", program]).splitlines()
            if "(NEEDED)" in line]


def check_linkage(program, library, static):
    linked = [name for name in needs(program) if name.startswith("libweir")]
    if static and linked:
        raise Failed(f"{program.name} was to be static, but needs {' '.join(linked)}")
    if not static and not any(name.startswith(library) for name in linked):
        raise Failed(f"{program.name} was to need {library}, but needs {linked}")


def run_program(program, libdir, *arguments):
    env = dict(os.environ)
    env["LD_LIBRARY_PATH"] = str(libdir)
    return run([program, *arguments], env=env, seconds=90)


def runnable(source, packages):
    """Why a program cannot be built on this machine, or None."""
    for package in packages:
        if not package.startswith("weir") and not has_package(package):
            return f"{package} is not installed"
    if source.endswith(".cc") and shutil.which(CXX[0]) is None:
        return "no C++ compiler"
    return None


def test_prefix(tap, prefix):
    for name, source, packages, library in PROGRAMS:
        for static in (False, True):
            way = f"{name}, installed, {'static' if static else 'shared'}"
            missing = runnable(source, packages)
            if missing:
                tap.skip(way, missing)
                continue

            def step():
                program = prefix.scratch / f"{source.split('.')[0]}-{'a' if static else 'so'}"
                prefix.build(program, HERE / source, packages, static)
                check_linkage(program, library, static)
                return run_program(program, prefix.libdir)

            tap.check(way, step)


FOREIGN = """project('foreign', 'c', 'cpp', default_options: ['c_std=gnu11', 'warning_level=2'])
add_project_arguments('-D_GNU_SOURCE', language: 'c')
threads = dependency('threads')
weir = dependency('weir', fallback: 'weir')
weir_coro = dependency('weir-coro', fallback: 'weir')
libuv = dependency('libuv', required: false)
executable('echo_server', 'echo_server.c', dependencies: [weir, threads])
executable('poll_loop', 'poll_loop.c', dependencies: weir_coro)
executable('headers', 'headers.cc', dependencies: weir)
if libuv.found()
  executable('libuv_loop', 'libuv_loop.c', dependencies: [weir_coro, libuv])
endif
"""


def test_subproject(tap, scratch, source, options):
    project = scratch / "foreign"
    (project / "subprojects").mkdir(parents=True)
    (project / "subprojects" / "weir").symlink_to(source)
    (project / "meson.build").write_text(FOREIGN, encoding="utf-8")
    for _, name, _, _ in PROGRAMS:
        shutil.copy(HERE / name, project)
    # The programs must not find what is installed on this machine instead.
    weir_options = [option.replace("-D", "-Dweir:", 1) for option in options]
    for kind in ("shared", "static"):
        build = scratch / f"foreign-{kind}"

        def configure():
            run(["meson", "setup", f"-Ddefault_library={kind}", "--wrap-mode=default",
                 "--force-fallback-for=weir,weir-coro", "--buildtype=debugoptimized",
                 *weir_options, build, project])
            run(["meson", "compile", "-C", build])
            left = list(build.rglob("weir-bench")) + list(build.rglob("test-*"))
            if left:
                raise Failed(f"a subproject builds libraries only, but there is {left[0]}")

        if not tap.check(f"as a subproject, {kind}: configures and compiles", configure):
            continue
        for name, program, packages, _ in PROGRAMS:
            missing = runnable(program, packages)
            if missing:
                tap.skip(f"{name}, as a subproject, {kind}", missing)
            else:
                tap.check(f"{name}, as a subproject, {kind}",
                          lambda p=program: run([build / p.split(".")[0]], seconds=90))


def main(source, *options):
    for name in ("ASAN_OPTIONS", "DESTDIR", "MESON_TESTTHREADS"):
        os.environ.pop(name, None)
    tap = Tap()
    with tempfile.TemporaryDirectory(prefix="weir-embed-") as folder:
        scratch = pathlib.Path(folder)
        prefix = Prefix(scratch)
        if tap.check("installs into a prefix", lambda: prefix.install(source, options)):
            test_prefix(tap, prefix)
        test_subproject(tap, scratch, pathlib.Path(source), options)
    print(f"1..{tap.number}")
    return 1 if tap.failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
