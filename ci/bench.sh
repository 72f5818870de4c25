# shellcheck shell=sh
# How bench/compare and its siblings start: install what the build lacks,
# configure and compile a release build, then become `weir-bench NAME`. Once that is done, a start
# costs one look by ninja whether a source has changed. Sourced by them; never run.

: "${root:?set by the wrapper}"
# shellcheck source=ci/lib.sh
. "$root/ci/lib.sh"

bench_dir=$build_root/release
bench_binary=$bench_dir/bench/weir-bench

bench_build() {
    # Built before: compile what changed, and look at packages only if that fails for want of one.
    if [ -x "$bench_binary" ] && find_ninja >/dev/null; then
        bench_compile && return 0
        "$root/ci/install" --no-install build >/dev/null 2>&1 && return 1
    fi
    # shellcheck disable=SC2086 # one word or none
    "$root/ci/install" $no_install build || return $?
    bench_compile
}

bench_compile() {
    configure "$bench_dir" --buildtype=release -Ddefault_library=static -Dtests=disabled \
        -Dbench=enabled && compile "$bench_dir"
}

bench_short_help() {
    cat <<END
Usage: bench/$bench_name [--no-install] [option...]

Installs what the build lacks, compiles a release build in build/release, then runs
\`weir-bench $bench_name\` with the options given.

      --no-install   do not install packages; say which command would, and exit with 2

The options of \`weir-bench $bench_name\` itself are listed here once it is built; this machine
still lacks something to build it with. To see what: ci/install --dry-run build
END
}

# bench_main NAME ARGS...
bench_main() {
    bench_name=$1
    shift
    no_install=
    bench_help=
    bench_left=$#
    while [ "$bench_left" -gt 0 ]; do
        bench_arg=$1
        shift
        case $bench_arg in
        --no-install) no_install=--no-install ;;
        *)
            case $bench_arg in --help | -h | '-?') bench_help=yes ;; esac
            set -- "$@" "$bench_arg"
            ;;
        esac
        bench_left=$((bench_left - 1))
    done
    # Asking for help installs nothing.
    if [ -n "$bench_help" ] && [ ! -x "$bench_binary" ] &&
        ! "$root/ci/install" --no-install build >/dev/null 2>&1; then
        bench_short_help
        exit 0
    fi
    locked bench_build || exit $?
    if [ -n "$bench_help" ]; then
        bench_status=0
        "$bench_binary" "$bench_name" "$@" || bench_status=$?
        printf '\nbench/%s itself takes --no-install: to refuse instead of installing packages.\n' \
            "$bench_name"
        exit "$bench_status"
    fi
    exec "$bench_binary" "$bench_name" "$@"
}
