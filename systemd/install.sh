#!/bin/bash
# Installs Mien as a service on Raspberry Pi OS and Debian, Bookworm and Trixie, 64-bit. `install.sh --help` says how.
#
# The Debian package's maintainer scripts are copies of this file (see the end), so there is one way to install.
# A new environment is made beside the one in use and tried; only then is /opt/mien/venv pointed at it, in one rename.
# Whatever fails before or after that, the trap puts everything back.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8 PIP_DISABLE_PIP_VERSION_CHECK=1
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # `su` leaves these out
unset CDPATH PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_USER PIP_CONSTRAINT PIP_REQUIRE_VIRTUALENV

readonly HOME_DIR=/opt/mien CURRENT=/opt/mien/venv ENVIRONMENTS=/opt/mien/venvs WORK=/opt/mien/.work
readonly CONFIG=/etc/mien/mien.toml RESULTS="/var/lib/mien /var/log/mien /var/cache/mien"
readonly PACKAGED=/usr/share/mien DOCS=/usr/share/doc/mien
# systemd-sysusers makes the account, and OpenCV's Debian package leaves its cascades to opencv-data.
readonly REQUIRED="python3 python3-venv python3-numpy python3-opencv opencv-data systemd"
# Raspberry Pi OS alone has picamera2; gpiozero is for a button and an LED, cryptography for signed models.
readonly OPTIONAL="python3-picamera2 python3-gpiozero python3-lgpio python3-cryptography"
readonly NEEDED_MB=250
readonly USAGE_ERROR=64 UNAVAILABLE=69 FAULT=70 CANNOT_WRITE=73 WRONG_CONFIG=78

HERE=$(cd "$(dirname "$0")" && pwd)
KIT=$(dirname "$HERE") # a checkout, or what `make wheelhouse` made: a checkout's shape with a folder of wheels
wheels="" interpreter=${MIEN_INTERPRETER:-} wait_s=300 start=yes packaged=no
release="" new="" before="" was_active=no settled=yes

usage() {
    cat <<'TEXT'
usage: sudo systemd/install.sh [install] [options]    install, upgrade or downgrade to the version that lies here
       sudo systemd/install.sh uninstall              remove the program; configuration and results stay
       sudo systemd/install.sh purge                  remove the configuration, the results and the account too

options of install:
  --wheels DIR          take the wheels from this folder, not from PyPI (`make wheelhouse` fills one)
  --interpreter NAME    ai-edge-litert, or tflite-runtime, which is smaller and for Bookworm only
                        (the one that is installed, else ai-edge-litert)
  --wait SECONDS        how long to wait for another apt to finish (300)
  --no-start            leave the service alone: neither enable nor start it

exit codes: 0 done, 64 wrong usage, 69 something cannot be had (network, apt, an unknown system), 70 a fault of ours,
73 cannot write, 78 the configuration is refused. Unless it is 0, all is as it was before.
TEXT
}

say() { printf 'mien: %s\n' "$*"; }

die() { # CODE MESSAGE...
    local code=$1
    shift
    printf 'mien: %s\n' "$*" >&2
    exit "$code"
}

# --- what is here -----------------------------------------------------------------------------------------------------

check_system() {
    local architecture id codename pretty
    architecture=$(dpkg --print-architecture 2>/dev/null) ||
        die $UNAVAILABLE "this is no Debian: there is no dpkg; Mien's installer knows Raspberry Pi OS and Debian, Bookworm and Trixie. Nothing was changed"
    case $architecture in
        arm64 | amd64) ;;
        armhf | armel | i386)
            die $UNAVAILABLE "this system is 32-bit ($architecture), and the interpreters that run Mien's model exist for 64-bit systems only; write the 64-bit Raspberry Pi OS to the card (a Pi 3, 4, 5 or Zero 2 can run it). Nothing was changed"
            ;;
        *) die $UNAVAILABLE "there are no wheels for this processor ($architecture), only for arm64 and amd64. Nothing was changed" ;;
    esac
    # shellcheck source=/dev/null
    { read -r id && read -r codename && read -r pretty; } < <(
        . /etc/os-release 2>/dev/null || true
        printf '%s\n' "${ID:-unknown}" "${VERSION_CODENAME:-unknown}" "${PRETTY_NAME:-an unknown system}"
    )
    case $id/$codename in
        debian/bookworm | debian/trixie | raspbian/bookworm | raspbian/trixie) release=$codename ;;
        *) die $UNAVAILABLE "this is $pretty ($id, $codename); Mien's installer knows Raspberry Pi OS and Debian, Bookworm and Trixie. Nothing was changed" ;;
    esac
}

choose_interpreter() {
    if [ -z "$interpreter" ]; then
        interpreter=ai-edge-litert
        # An upgrade keeps what somebody chose.
        if [ "$release" = bookworm ] && compgen -G "$CURRENT/lib/python3*/site-packages/tflite_runtime" >/dev/null; then
            interpreter=tflite-runtime
        fi
    fi
    case $interpreter/$release in
        ai-edge-litert/* | tflite-runtime/bookworm) ;;
        tflite-runtime/*) die $USAGE_ERROR "tflite-runtime ended with Python 3.11 and cannot run on $release; leave --interpreter out" ;;
        *) die $USAGE_ERROR "--interpreter is $interpreter; expected ai-edge-litert or tflite-runtime" ;;
    esac
}

check_space() {
    local place=/opt free_mb
    [ -d $HOME_DIR ] && place=$HOME_DIR
    [ -d $place ] || place=/
    free_mb=$(df --output=avail --block-size=1M "$place" | tail -n 1 | tr -d ' ')
    [ "$free_mb" -ge $NEEDED_MB ] ||
        die $CANNOT_WRITE "$place has $free_mb MB free and $NEEDED_MB are needed while the new version is tried beside the old one; make room (sudo apt clean; du -xh / | sort -h | tail), then run this again. Nothing was changed"
}

is_installed() { dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

missing_of() { # PACKAGE...: those that are not installed
    local package
    for package in "$@"; do is_installed "$package" || printf '%s ' "$package"; done
}

# --- Debian's packages ------------------------------------------------------------------------------------------------

apt_get() { # ARGUMENT...: waits for another apt, within bounds
    local said=$WORK/apt.log until=$((SECONDS + wait_s)) told=no
    while ! DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get "$@" >"$said" 2>&1 </dev/null; do
        grep -qE 'Could not get lock|Unable to (lock|acquire)' "$said" || return 1
        [ $told = yes ] || say "another program is using apt; waiting up to $wait_s s"
        told=yes
        [ $SECONDS -lt $until ] ||
            die $UNAVAILABLE "another program has held apt's lock for $wait_s s ($(grep -oE 'held by process [0-9]+ \([^)]*\)' "$said" | head -n 1 || true)); let it finish (unattended upgrades take minutes), or wait longer with --wait, then run this again. Nothing of Mien was changed"
        sleep 2
    done
}

apt_said() { # WHAT
    sed 's/^/    /' "$WORK/apt.log" | grep -E '^    (E|W|Err)' | tail -n 6 >&2 || true
    say "$1" >&2
}

apt_failed() { # WHAT
    apt_said "$1"
    die $UNAVAILABLE "look at what apt said above, at the network and at the disk, mend that (if apt was interrupted: sudo dpkg --configure -a), then run this again. Nothing of Mien was changed"
}

install_debian_packages() {
    local missing package
    local -a wanted=()
    # shellcheck disable=SC2086
    missing=$(missing_of $REQUIRED)
    if [ -n "$missing" ]; then
        # One foreign archive that fails is no reason to stop: perhaps these come from others.
        apt_get update || apt_said "apt cannot fetch all of its lists"
        say "installing Debian's ${missing% } (this takes minutes)"
        # shellcheck disable=SC2086
        apt_get install -y --no-install-recommends $missing || apt_failed "apt cannot install $missing"
    fi
    # shellcheck disable=SC2086
    for package in $(missing_of $OPTIONAL); do
        if apt-cache show "$package" >/dev/null 2>&1; then wanted+=("$package"); fi
    done
    if [ ${#wanted[@]} -gt 0 ]; then
        say "installing Debian's ${wanted[*]}"
        apt_get install -y --no-install-recommends "${wanted[@]}" ||
            say "apt cannot install ${wanted[*]} now; without them there is no Pi camera, button, LED or signed model. Run this again with a network to have them"
    fi
    is_installed python3-picamera2 ||
        say "note: there is no python3-picamera2 here (Raspberry Pi OS has it); USB and network cameras work"
}

# --- a new environment beside the old one -----------------------------------------------------------------------------

make_environment() {
    local version build=$WORK/build requirements=$WORK/requirements.txt
    local -a from=(--no-index)
    if [ -z "$wheels" ]; then from=(--timeout 30 --retries 3); fi
    new=$ENVIRONMENTS/$(date -u +%Y%m%dT%H%M%S)-$$
    mkdir -p "$ENVIRONMENTS" "$WORK/tmp" "$WORK/wheels"
    # /tmp is in memory on Trixie, and a small Pi has little of that.
    export TMPDIR=$WORK/tmp
    logged "Python cannot make an environment" /usr/bin/python3 -m venv --system-site-packages "$new"

    other=$([ "$interpreter" = tflite-runtime ] && echo ai-edge-litert || echo tflite-runtime)
    grep -v "^$other==" "$HERE/constraints-$release.txt" >"$requirements"
    if [ -n "$wheels" ]; then
        cat "$wheels/mien.txt" >>"$requirements"
        from+=(--find-links "$wheels")
    else
        say "building Mien's wheel"
        mkdir -p "$build/source"
        cp -r "$KIT/"{edge,trainer,export,systemd,setup.py,pyproject.toml,README.md} "$build/source"
        pip "setuptools cannot be had" install "${from[@]}" --require-hashes --no-deps --target "$build/tools" \
            -r "$HERE/constraints-build.txt"
        PYTHONPATH=$build/tools pip "Mien's wheel cannot be built" wheel --no-index --no-deps --no-build-isolation \
            --wheel-dir "$WORK/wheels" "$build/source"
        printf 'mien==%s --hash=sha256:%s\n' "$(version_of "$WORK"/wheels/mien-*.whl)" \
            "$(sha256sum "$WORK"/wheels/mien-*.whl | cut -d ' ' -f 1)" >>"$requirements"
        from+=(--find-links "$WORK/wheels")
    fi
    version=$(sed -n 's/^mien==\([^ ]*\).*/\1/p' "$requirements")
    say "installing Mien $version with $interpreter beside what is there"
    # Without dependencies, so that no numpy and no OpenCV come that would stand before Debian's.
    pip "the wheels cannot be had" install "${from[@]}" --require-hashes --no-deps --ignore-installed \
        --only-binary=:all: --no-warn-script-location -r "$requirements"
    # The unit calls it by a name that does not change with Python's version.
    (cd "$new" && ln -s lib/python3*/site-packages/edge/backoff.py backoff.py)
}

version_of() { basename "$1" | cut -d - -f 2; }

logged() { # WHAT COMMAND...
    local what=$1
    shift
    "$@" >"$WORK/command.log" 2>&1 </dev/null && return
    tail -n 6 "$WORK/command.log" | sed 's/^/    /' >&2
    # Not every program says so, and some have cleared away by now what they could not finish.
    if grep -q 'No space left on device' "$WORK/command.log" || ! head -c 20M /dev/zero >"$WORK/room" 2>/dev/null; then die $CANNOT_WRITE "$what: the disk is full; make room, then run this again"; fi
    die $UNAVAILABLE "$what; look at what was said above${wheels:+ and at $wheels}, then run this again"
}

pip() { # WHAT ARGUMENT...
    local what=$1
    shift
    logged "$what" "$new/bin/python" -m pip --no-cache-dir --no-input "$@"
}


# What a new version must be able to do before it replaces the old one; the shipped model tests itself when it opens.
readonly TRIAL='
import sys
import cv2, numpy
for module in (numpy, cv2):
    if not module.__file__.startswith("/usr/lib/python3/dist-packages/"):
        sys.exit(f"{module.__name__} comes from {module.__file__}, which stands before Debian'"'"'s and breaks picamera2; "
                 f"remove that copy (sudo pip3 uninstall --break-system-packages numpy opencv-python "
                 f"opencv-python-headless)")
from edge.cli import make_parser
from edge.detector import Detector
from edge.errors import MienError
from edge.model import open_model
make_parser()
try:
    open_model()
except MienError as error:
    sys.exit(str(error))
'
readonly READ_CONFIG='
import sys
from pathlib import Path
from edge.config import load_config
from edge.errors import MienError
try:
    load_config(Path(sys.argv[1]), environ={}, overrides={})
except MienError as error:
    sys.exit(f"mien: {error}")
'

try_environment() {
    logged "the new version does not work here" "$new/bin/python" -I -c "$TRIAL"
    logged "the new version does not work here" "$new/bin/mien" --version
    if [ -e $CONFIG ] && ! "$new/bin/python" -I -c "$READ_CONFIG" $CONFIG; then
        die $WRONG_CONFIG "the new version refuses this configuration; mend it as the line above says, then $(again)"
    fi
}

again() { if [ $packaged = yes ]; then echo "run: sudo dpkg --configure -a"; else echo "run this again"; fi; }

# --- putting it in place, and back ------------------------------------------------------------------------------------

will_change() { # PATH: notes on disk how to put it back, so that even a power cut can be undone by the next run
    if [ -e "$1" ] || [ -L "$1" ]; then
        mkdir -p "$WORK/before$(dirname "$1")"
        cp -a "$1" "$WORK/before$1"
        echo "restore $1" >>"$WORK/undo"
    else
        echo "remove $1" >>"$WORK/undo"
    fi
}

put() { # MODE SOURCE TARGET
    will_change "$3"
    install -D -m "$1" "$2" "$3.new"
    mv -f "$3.new" "$3"
}

link() { # TEXT TARGET
    will_change "$2"
    ln -sfn "$1" "$2.new"
    mv -fT "$2.new" "$2"
}

undo() {
    local what path
    [ -s "$WORK/undo" ] || return 0
    tac "$WORK/undo" | while read -r what path; do
        rm -f "$path.new"
        if [ "$what" = remove ]; then
            rm -f "$path" || exit
        else
            cp -a "$WORK/before$path" "$path.new" || exit
            mv -fT "$path.new" "$path" || exit
        fi
    done || die $CANNOT_WRITE "what an unfinished installation changed cannot be put back; look whether the disk is full or read-only (df -h; dmesg | tail), then run this again"
    rm -f "$WORK/undo"
    systemd_runs && systemctl daemon-reload
    return 0
}

tidy() { # what a run that was cut off left behind
    local environment
    for environment in "$ENVIRONMENTS"/*; do
        # By what it is and not by name: /opt may be a link to a larger disk.
        [ "$environment" -ef $CURRENT ] || rm -rf "$environment"
    done
    rm -rf "$WORK"
    rmdir "$ENVIRONMENTS" $HOME_DIR 2>/dev/null || true
}

# shellcheck disable=SC2317  # the trap calls it
on_exit() {
    local code=$?
    trap - EXIT
    [ $settled = yes ] && exit $code
    [ $code -ne 0 ] || code=$FAULT
    trap '' INT TERM HUP PIPE
    if [ $code -lt $USAGE_ERROR ]; then # a command's own, not one of ours
        code=$CANNOT_WRITE
        say "look whether the disk is full or read-only (df -h; dmesg | tail), then run this again" >&2 || true
    fi
    undo
    tidy
    trap - INT TERM HUP
    if [ $was_active = yes ]; then systemctl restart mien.service || true; fi
    if [ -n "$before" ]; then say "nothing changed: Mien is what it was"; else say "nothing was installed"; fi >&2 || true
    exit $code
}

systemd_runs() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }

lock() {
    mkdir -p /run/lock # where a system is built, nobody has made it
    exec 9>/run/lock/mien-install.lock
    flock -n 9 || die $UNAVAILABLE "another installation of Mien is running; wait for it to end"
}

begin() {
    lock
    cd / # Python would import what lies in the folder that this was called from
    [ -L $CURRENT ] || [ ! -e $CURRENT ] ||
        die $CANNOT_WRITE "$CURRENT is a folder that this script did not make; move it away, then run this again"
    undo
    tidy
    check_space
    before=$(readlink $CURRENT || true)
    settled=no
    trap on_exit EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    trap 'exit 141' PIPE
    mkdir -p "$WORK"
    if systemd_runs; then
        if systemctl is-active --quiet mien.service; then
            was_active=yes
        elif [ "$(systemctl show --property=ActiveState --value mien.service)" = activating ]; then
            was_active=not-yet # it waits for its camera
        fi
    fi
}

replace() {
    local library=/usr/local/lib
    sync
    if [ $packaged = yes ]; then
        library=/usr/lib
        # Those of an installation by script would stand before the package's.
        for path in /usr/local/bin/mien /usr/local/lib/{systemd/system/mien.service,sysusers.d/mien.conf} $HOME_DIR/install.sh; do
            if [ -e "$path" ] || [ -L "$path" ]; then
                will_change "$path"
                rm -f "$path"
            fi
        done
    else
        put 755 "$HERE/install.sh" $HOME_DIR/install.sh
        put 644 "$HERE/mien.service" $library/systemd/system/mien.service
        put 644 "$HERE/mien.sysusers.conf" $library/sysusers.d/mien.conf
        put 644 "$KIT/README.md" $DOCS/README.md
        put 644 "$KIT/docs/mien.toml" $DOCS/mien.toml
        link $CURRENT/bin/mien /usr/local/bin/mien
        [ -e $CONFIG ] || put 644 "$HERE/mien.toml" $CONFIG
    fi
    if getent passwd mien >/dev/null && ! is_our_account; then
        say "note: there is an account mien of somebody's here; the service runs as that, and purge leaves it"
    fi
    logged "the account cannot be made" systemd-sysusers $library/sysusers.d/mien.conf
    link "${new#"$HOME_DIR/"}" $CURRENT
}

start_service() {
    command -v systemctl >/dev/null || return 0
    if systemd_runs; then systemctl daemon-reload; fi
    if [ $was_active = yes ]; then
        timeout 150 systemctl restart mien.service ||
            die $FAULT "the new version does not start (journalctl -u mien says why)"
    elif [ $was_active = not-yet ]; then
        systemctl restart --no-block mien.service
    elif [ -z "$before" ] && [ $start = yes ]; then
        systemctl enable --quiet mien.service
        if systemd_runs; then systemctl start --no-block mien.service; fi
    fi
}

settle() {
    local version
    version=$($CURRENT/bin/mien --version)
    settled=yes
    trap - EXIT INT TERM HUP PIPE
    sync
    rm -f "$WORK/undo"
    tidy
    say "$version is installed${before:+ in place of the one before}"
    [ -n "$before" ] || say "its configuration is $CONFIG; \`mien doctor\` looks at camera, broker and clock"
}

# --- commands ---------------------------------------------------------------------------------------------------------

install_mien() {
    if [ $packaged = no ] && is_installed mien; then
        die $UNAVAILABLE "Mien is installed as a Debian package here; upgrade it with sudo apt install ./mien_*.deb, or remove that first: sudo apt remove mien"
    fi
    choose_interpreter
    begin
    [ $packaged = yes ] || install_debian_packages
    make_environment
    try_environment
    replace
    start_service
    settle
}

stop_service() {
    command -v systemctl >/dev/null || return 0
    if systemd_runs; then systemctl stop mien.service 2>/dev/null || true; fi
    systemctl disable --quiet mien.service 2>/dev/null || true
}

remove_program() {
    rm -rf $HOME_DIR
    if [ $packaged = no ]; then
        rm -rf $DOCS
        rm -f /usr/local/bin/mien /usr/local/lib/{systemd/system/mien.service,sysusers.d/mien.conf}
    fi
    if systemd_runs; then systemctl daemon-reload; fi
}

remove_results() {
    local group
    # shellcheck disable=SC2086
    rm -rf $RESULTS /etc/mien
    rm -f /etc/credstore/mien.{mqtt,source}-password
    if is_our_account; then
        userdel mien || die $UNAVAILABLE "the account mien cannot be removed; end what runs as it (ps -u mien), then purge again"
    fi
    group=$(getent group mien | cut -d : -f 3 || true)
    # Numbers from 1000 on are people's.
    if [ "${group:-1000}" -lt 1000 ] && ! getent passwd mien >/dev/null; then groupdel mien; fi
}

is_our_account() { [ "$(getent passwd mien | cut -d : -f 6)" = /var/lib/mien ]; }

remove_mien() { # uninstall or purge
    if is_installed mien; then die $UNAVAILABLE "Mien is installed as a Debian package here; use: sudo apt ${1/uninstall/remove} mien"; fi
    lock
    stop_service
    remove_program
    if [ "$1" = purge ]; then
        remove_results
        say "the program, its configuration, its results and the account that was made for it are gone; Debian's packages stay"
    else
        say "the program is gone; /etc/mien and the results stay (purge removes them), and so do Debian's packages"
    fi
}

as_root() { # ARGUMENT...
    [ "$(id -u)" -ne 0 ] || return 0
    if [ -t 0 ] && command -v sudo >/dev/null; then
        say "this needs root's rights; sudo may ask for your password"
        exec sudo -- bash "$HERE/$(basename "$0")" "$@" # a USB stick may let nothing be executed
    fi
    die $USAGE_ERROR "this needs root's rights: sudo $0 $*"
}

main() {
    local command=install
    local -a given=("$@")
    while [ $# -gt 0 ]; do
        case $1 in
            install | uninstall | purge) command=$1 ;;
            --wheels | --interpreter | --wait)
                [ $# -ge 2 ] || die $USAGE_ERROR "$1 needs a value; see --help"
                case $1 in
                    --wheels) wheels=$2 ;;
                    --interpreter) interpreter=$2 ;;
                    --wait) wait_s=$2 ;;
                esac
                shift
                ;;
            --no-start) start=no ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) die $USAGE_ERROR "what is $1? See --help" ;;
        esac
        shift
    done
    [[ $wait_s =~ ^[0-9]{1,6}$ ]] || die $USAGE_ERROR "--wait is $wait_s; expected seconds, a whole number"
    wait_s=$((10#$wait_s))
    if [ "$command" != install ]; then
        as_root "${given[@]}"
        remove_mien "$command"
        return
    fi
    check_system
    [ -f "$HERE/constraints-$release.txt" ] ||
        die $USAGE_ERROR "$HERE holds no version to install; run the install.sh in a checkout or in what make wheelhouse made. This one can: uninstall, purge"
    if [ -z "$wheels" ] && [ -d "$KIT/wheels" ]; then wheels=$KIT/wheels; fi
    if [ -n "$wheels" ]; then
        wheels=$(cd "$wheels" 2>/dev/null && pwd) || die $USAGE_ERROR "--wheels: there is no such folder"
        [ -f "$wheels/mien.txt" ] || die $USAGE_ERROR "--wheels: $wheels holds no mien.txt; make wheelhouse makes one, dist/wheelhouse/wheels"
    fi
    as_root "${given[@]}"
    install_mien
}

# dpkg runs copies of this file as preinst, postinst, prerm and postrm.
maintain() { # ACTION...
    packaged=yes HERE=$PACKAGED/systemd KIT=$PACKAGED wheels=$PACKAGED/wheels
    case $DPKG_MAINTSCRIPT_NAME/${1:-} in
        preinst/install | preinst/upgrade)
            check_system
            check_space
            ;;
        postinst/configure)
            check_system
            install_mien
            ;;
        # Another Python has come, as from Bookworm to Trixie. A failure here would stop the whole upgrade of the system.
        postinst/triggered)
            if ! $CURRENT/bin/mien --version >/dev/null 2>&1; then
                "$0" configure || say "install the package once more when the system's upgrade is done: sudo apt install ./mien_*.deb"
            fi
            ;;
        prerm/remove) stop_service ;;
        postrm/remove) remove_program ;;
        # Somebody may have gone over to an installation by script meanwhile.
        postrm/purge) [ -e $HOME_DIR/install.sh ] || remove_results ;;
    esac
}

if [ "${DPKG_MAINTSCRIPT_PACKAGE:-}" = mien ]; then maintain "$@"; else main "$@"; fi
