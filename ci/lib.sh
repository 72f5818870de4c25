# shellcheck shell=sh
# What the scripts of ci/ and the wrappers of bench/ share: words to the person, configuring and
# compiling a build directory. Sourced by them after they set `root`, the top of the clone; never
# run. Speaks on stderr only: stdout belongs to the program that is run in the end.

build_root=${WEIR_BUILD_DIR:-$root/build}

say() {
    printf 'weir: %s\n' "$*" >&2
}

die() {
    die_status=$1
    shift
    say "$@"
    exit "$die_status"
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Distributions call it ninja, ninja-build (older Red Hat) or samu (Alpine); so does Meson.
find_ninja() {
    for ninja_name in ninja ninja-build samu; do
        if have "$ninja_name"; then
            printf '%s\n' "$ninja_name"
            return 0
        fi
    done
    return 1
}

# show_failure WHAT LOG: the end of a log, and where the rest is.
show_failure() {
    say "$1; the end of $2:"
    tail -n 40 -- "$2" | sed 's/^/  | /' >&2
}

# run_logged LOG COMMAND...: quiet while all goes well. The caller shows the log if it does not.
run_logged() {
    run_log=$1
    shift
    "$@" >"$run_log" 2>&1 </dev/null
}

make_build_root() {
    mkdir -p -- "$build_root" 2>/dev/null || :
    [ -w "$build_root" ] ||
        die 1 "cannot write $build_root; set WEIR_BUILD_DIR to a directory that can be written"
}

# configure DIR ARGS...: runs Meson unless DIR is already configured just so, from this very place.
configure() {
    conf_dir=$1
    shift
    conf_stamp=$conf_dir/weir-configured
    conf_want="$root CC=${CC:-} CFLAGS=${CFLAGS:-} $*"
    if [ -f "$conf_dir/build.ninja" ] && [ "$(cat "$conf_stamp" 2>/dev/null)" = "$conf_want" ]; then
        return 0
    fi
    conf_wipe=
    [ ! -e "$conf_dir/meson-private/coredata.dat" ] || conf_wipe=--wipe
    mkdir -p -- "$conf_dir"
    conf_log=$build_root/$(basename -- "$conf_dir")-configure.log
    say "configuring ${conf_dir#"$root"/}"
    # shellcheck disable=SC2086 # conf_wipe is one word or none
    if ! run_logged "$conf_log" meson setup $conf_wipe "$@" "$conf_dir" "$root"; then
        show_failure "meson setup failed" "$conf_log"
        say "if a package is missing: ci/install build test"
        return 1
    fi
    printf '%s\n' "$conf_want" >"$conf_stamp"
    if grep -q '^#define WEIR_HAVE_URING 0' "$conf_dir/config.h" 2>/dev/null; then
        case " $* " in
        *" -During=disabled "*) ;;
        *) say "built WITHOUT io_uring: liburing >= 2.3 is neither installed nor could it be" \
            "fetched (subprojects/liburing.wrap); see $conf_log" ;;
        esac
    fi
}

# show_steps LOG: copies ninja's output to LOG; on a terminal shows how far it is, on one line.
show_steps() {
    steps_shown=
    while IFS= read -r step_line; do
        printf '%s\n' "$step_line" >&5
        case $step_line in
        '['*/*']'*) ;;
        *) continue ;;
        esac
        step=${step_line%%]*}
        if [ -t 2 ]; then
            printf '\r\033[Kweir: compiling %s ' "${step#?}" >&2
        elif [ -z "$steps_shown" ]; then
            say "compiling ${step#*/} steps"
        fi
        steps_shown=yes
    done 5>"$1"
    if [ -n "$steps_shown" ] && [ -t 2 ]; then
        printf '\r\033[K' >&2
    fi
}

# compile DIR [TARGET...]: silent if there is nothing to do.
compile() {
    comp_dir=$1
    shift
    comp_log=$comp_dir/weir-compile.log
    comp_status=$comp_dir/weir-compile.status
    comp_began=$(date +%s)
    comp_ninja=$(find_ninja) || return 1
    {
        comp_rc=0
        NINJA_STATUS='[%f/%t] ' "$comp_ninja" -C "$comp_dir" "$@" 2>&1 </dev/null || comp_rc=$?
        printf '%s\n' "$comp_rc" >"$comp_status"
    } | show_steps "$comp_log"
    if [ "$(cat "$comp_status")" != 0 ]; then
        show_failure "compiling failed" "$comp_log"
        say "if the compiler or a library changed since, remove ${comp_dir#"$root"/} and run this" \
            "again"
        return 1
    fi
    if grep -q '^\[' "$comp_log"; then
        say "compiled in $(($(date +%s) - comp_began)) s"
    fi
}

# locked COMMAND...: two wrappers started together (serve here, load there) build one after another.
locked() {
    make_build_root
    if have flock; then
        (
            if ! flock -n 9; then
                say "waiting for another build in $build_root"
                flock 9
            fi
            "$@"
        ) 9>"$build_root/.lock"
    else
        "$@"
    fi
}
