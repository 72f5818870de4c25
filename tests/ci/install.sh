#!/bin/sh
# shellcheck disable=SC2317 # check calls functions by name
# ci/install on machines this one is not: a PATH that holds only basic tools, a package manager made
# up here (apt-get, dnf, pacman or apk) that writes down how it was called and then "installs" by
# creating what the package would bring. Prints TAP. Touches nothing outside its scratch directory.
set -u
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
number=0
failures=0

check() { # NAME COMMAND...
    number=$((number + 1))
    check_name=$1
    shift
    if "$@"; then
        echo "ok $number - $check_name"
    else
        failures=$((failures + 1))
        echo "not ok $number - $check_name"
        sed 's/^/# said: /' "$scratch/said"
        sed 's/^/# called: /' "$scratch/called"
    fi
}

# machine MANAGER USER_ID: a fresh machine with this package manager.
machine() {
    rm -rf "${scratch:?}/bin" "${scratch:?}/build"
    mkdir "$scratch/bin"
    : >"$scratch/called"
    for tool in sh env awk sed cat tr sort head tail dirname basename readlink mktemp rm mkdir \
        grep printf expr date chmod; do
        path=$(command -v "$tool") && ln -s "$path" "$scratch/bin/$tool" 2>/dev/null
    done
    script id "echo $2"
    case $1 in
    none) ;;
    *) script "$1" "$(manager_body "$1")" ;;
    esac
}

script() { # NAME BODY
    printf '#!/bin/sh\n%s\n' "$2" >"$scratch/bin/$1"
    chmod +x "$scratch/bin/$1"
}

# A fresh machine knows no package until its lists are refreshed. Packages leave what they bring:
# a compiler that takes anything, a pkg-config that knows the libraries that were installed.
manager_body() {
    cat <<END
echo "$1 \$*" >>"$scratch/called"
case " \$* " in
*" -s "*) [ -e "$scratch/lists" ]; exit ;;
*" update "*|*" makecache "*|*" -Sy "*) : >"$scratch/lists"; exit 0 ;;
esac
[ -e "$scratch/lists" ] || { echo "no such package"; exit 100; }
for word in "\$@"; do
    case \$word in
    $broken) echo "$1: \$word does not exist"; exit 1 ;;
    esac
done
for word in "\$@"; do
    case \$word in
    gcc) set -- cc ;;
    meson) set -- meson ;;
    ninja|ninja-build) set -- ninja ;;
    samurai) set -- samu ;;
    g++) set -- g++ ;;
    pkg-config|pkgconf|pkgconf-pkg-config) set -- pkg-config ;;
    liburing*) : >"$scratch/lib-liburing"; continue ;;
    libc-ares*|c-ares*) : >"$scratch/lib-libcares"; continue ;;
    libjansson*|jansson*) : >"$scratch/lib-jansson"; continue ;;
    *) continue ;;
    esac
    {
        echo '#!/bin/sh'
        [ \$1 != meson ] || echo 'echo $meson_version'
        [ \$1 != pkg-config ] || {
            echo 'for last; do :; done'
            echo 'case \$1 in --atleast-version*) [ -e "$scratch/lib-new" ] || exit 1 ;; esac'
            echo '[ -e "$scratch/lib-\$last" ]'
        }
    } >"$scratch/bin/\$1"
    chmod +x "$scratch/bin/\$1"
done
END
}

forget() {
    rm -f "$scratch"/lib-* "$scratch/lists"
    broken=no-such-word
    meson_version=1.0.1
    : >"$scratch/lib-new"
}

install() { # ARGS... -> $status, what it said
    status=0
    env -i PATH="$scratch/bin" WEIR_BUILD_DIR="$scratch/build" "$scratch/bin/sh" \
        "$root/ci/install" "$@" >"$scratch/said" 2>&1 </dev/null || status=$?
}

wrapper() { # NAME ARGS... -> $status, what it said
    name=$1
    shift
    status=0
    env -i PATH="$scratch/bin" WEIR_BUILD_DIR="$scratch/build" "$scratch/bin/sh" \
        "$root/bench/$name" "$@" >"$scratch/said" 2>&1 </dev/null || status=$?
}

ended() { # STATUS [TEXT]: ended so, having said so
    [ "$status" -eq "$1" ] && { [ $# -lt 2 ] || grep -qF -- "$2" "$scratch/said"; }
}

called() { # TEXT
    grep -qF -- "$1" "$scratch/called"
}

installed_with() { # TEXT
    ended 0 && called "$1"
}

called_nothing() {
    [ ! -s "$scratch/called" ]
}

ready_without_a_call() {
    ended 0 && called_nothing && [ ! -s "$scratch/said" ]
}

# Which command installs the build's packages with each manager.
expected_of() {
    case $1 in
    apt-get) echo "apt-get install -y --no-install-recommends gcc libc6-dev meson ninja-build" ;;
    dnf) echo "dnf install -y --setopt=install_weak_deps=False gcc meson ninja-build" ;;
    pacman) echo "pacman -S --needed --noconfirm gcc meson ninja pkgconf liburing c-ares jansson" ;;
    apk) echo "apk add --no-progress gcc musl-dev linux-headers meson samurai pkgconf" ;;
    esac
}

for manager in apt-get dnf pacman apk; do
    forget
    machine $manager 0
    install --no-install build
    check "$manager: --no-install refuses and names the command" ended 2 "$(expected_of $manager)"
    check "$manager: --no-install calls no package manager" called_nothing
    install --dry-run build
    check "$manager: --dry-run names the command and exits with 0" ended 0 "$(expected_of $manager)"
    check "$manager: --dry-run calls no package manager" called_nothing
    install build
    check "$manager: installs what the build lacks" installed_with "$(expected_of $manager)"
    check "$manager: says what it installs, first" ended 0 "installing with"
    : >"$scratch/called"
    install build
    check "$manager: the second call starts at once" ready_without_a_call
done

forget
: >"$scratch/lists"
machine apt-get 0
install build
never_refreshed() { ended 0 && ! called "apt-get update"; }
check "apt: lists that know the packages are not refreshed" never_refreshed

forget
machine apt-get 1000
install build
check "without root, sudo or doas: refuses with the command for root" ended 2 "As root"
called_no_install() { ! called "apt-get install -y"; }
check "without root, sudo or doas: installs nothing" called_no_install

script sudo "echo \"sudo \$*\" >>'$scratch/called'; [ \"\$1\" != -n ] || shift; exec \"\$@\""
install build
check "not root: goes through sudo" installed_with \
    "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get install"

forget
machine apk 1000
script doas "echo \"doas \$*\" >>'$scratch/called'; [ \"\$1\" != -n ] || shift; exec \"\$@\""
install build
check "not root, no sudo: goes through doas" installed_with "doas -n apk add"

forget
machine none 0
install build
check "no package manager known: says so" ended 2 "no apt, dnf, pacman or apk"

forget
broken='libjansson-dev'
machine apt-get 0
install build
check "a package that cannot be installed: fails, with the log's end" ended 1 \
    "libjansson-dev does not exist"
check "a package that cannot be installed keeps out no other" called "--no-install-recommends meson"

forget
broken='liburing-dev'
machine apt-get 0
install build
check "no liburing: not fatal, and told" ended 0 "leaves io_uring out"
: >"$scratch/called"
install build
no_second_try() { ended 0 "still lacking" && called_nothing; }
check "what could not be installed is not tried at every start" no_second_try

forget
broken='libc-ares-dev'
machine apt-get 0
install build
check "no c-ares: not fatal, and told" ended 0 "getaddrinfo on helper threads"

forget
rm -f "$scratch/lib-new"
machine apt-get 0
install build
check "liburing older than 2.3: the compiler for the wrapped one is installed" installed_with \
    "--no-install-recommends g++"

forget
meson_version=0.56.2
machine apt-get 0
install build
check "a Meson that is too old: says so" ended 1 "0.61 is needed"

forget
machine apt-get 0
install nonsense
check "an unknown set: lists the valid ones" ended 2 "there are: build test valgrind"

for name in compare serve load doctor instructions; do
    forget
    machine apt-get 0
    wrapper "$name" --no-install --engines epoll
    check "bench/$name --no-install refuses and names the command" ended 2 \
        "$(expected_of apt-get)"
    wrapper "$name" --help
    check "bench/$name --help on a fresh machine says how it starts" ended 0 "--no-install"
    check "bench/$name --help installs nothing" called_nothing
done

echo "1..$number"
exit $((failures > 0))
