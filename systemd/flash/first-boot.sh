#!/bin/sh
# Sets up a Raspberry Pi at its first boot and installs Mien on it. `mien-flash` puts it on the boot partition.
#
# It holds no setting: each lies in a file of its own beside it, in settings/, so that no value is ever read as a
# command. Every step may be cut off by a power cut and is done again at the next boot, until all are done.
#
# usage: first-boot.sh firstrun    Bookworm: systemd runs it once, named in cmdline.txt
#        first-boot.sh bootcmd     Trixie: cloud-init runs it early at every boot
#        first-boot.sh run         mien-first-boot.service: what takes long
set -eu
umask 022
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

ROOT=${MIEN_FIRST_BOOT_ROOT:-} # a folder, for the tests
BOOT=$ROOT/boot/firmware
KIT=$BOOT/mien
SETTINGS=$KIT/settings
REPORT=$BOOT/mien-first-boot.txt
UNIT=mien-first-boot.service
UNITS=$ROOT/etc/systemd/system
STATE=$ROOT/var/lib/mien-first-boot
CLOUD=$ROOT/var/lib/cloud
WORK=$ROOT/run/mien-first-boot
# What Mien needs of Debian (systemd/install.sh).
NEEDED="python3-venv python3-numpy python3-opencv opencv-data"
# What it uses where it can be had (the same place). Lite images come without picamera2.
WANTED="python3-picamera2 python3-gpiozero python3-lgpio python3-cryptography"
CLOUD_INIT_SECONDS=${MIEN_FIRST_BOOT_WAIT:-900}
MOST_CUTS=3

say() { # TEXT: to the journal and to the boot partition, which a card reader can read
    printf 'mien: %s\n' "$1"
    printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" >>"$REPORT" || true
}

die() {
    say "$1"
    exit 1
}

put() { # MODE SOURCE TARGET: there is always the old file or the new one
    mkdir -p "$(dirname "$3")"
    cp "$2" "$3.new"
    chmod "$1" "$3.new"
    sync
    mv -f "$3.new" "$3"
}

write() { # MODE TARGET: standard input
    mkdir -p "$(dirname "$2")"
    (umask 077 && cat >"$2.new")
    chmod "$1" "$2.new"
    sync
    mv -f "$2.new" "$2"
}

erase() { # FILE...: overwritten, then removed. What a card's controller has put aside is out of reach
    for file in "$@"; do
        [ -f "$file" ] || continue
        dd if=/dev/zero of="$file" bs=1 count="$(wc -c <"$file")" conv=notrunc,fsync 2>/dev/null
        rm -f "$file"
    done
}

setting() { cat "$SETTINGS/$1" 2>/dev/null || true; }

systemd_runs() { [ -d "$ROOT/run/systemd/system" ]; }

# --- the system's own settings, where no cloud-init makes them --------------------------------------------------------

set_hostname() {
    name=$(setting hostname)
    printf '%s\n' "$name" | write 644 "$ROOT/etc/hostname"
    { grep -v '^127\.0\.1\.1[[:space:]]' "$ROOT/etc/hosts" || true; printf '127.0.1.1\t%s\n' "$name"; } |
        write 644 "$ROOT/etc/hosts"
}

set_user() {
    user=$(setting user)
    hash=$(setting password)
    if [ -x "$ROOT/usr/lib/userconf-pi/userconf" ]; then
        "$ROOT/usr/lib/userconf-pi/userconf" "$user" "$hash"
    else
        id "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$user"
        for group in adm sudo video audio plugdev netdev gpio i2c spi render input; do
            if getent group "$group" >/dev/null; then usermod --append --groups "$group" "$user"; fi
        done
        if [ -n "$hash" ]; then printf '%s:%s\n' "$user" "$hash" | chpasswd --encrypted; fi
    fi
    if [ -f "$SETTINGS/authorized_keys" ]; then
        home=$ROOT$(getent passwd "$user" | cut -d : -f 6)
        mkdir -p "$home/.ssh"
        write 600 "$home/.ssh/authorized_keys" <"$SETTINGS/authorized_keys"
        chmod 700 "$home/.ssh"
        chown -R "$user:" "$home/.ssh"
        if [ -f "$SETTINGS/key_only" ]; then
            printf 'PasswordAuthentication no\n' | write 644 "$ROOT/etc/ssh/sshd_config.d/10-mien.conf"
        fi
    fi
    erase "$SETTINGS/password"
}

set_wifi() {
    write 600 "$ROOT/etc/NetworkManager/system-connections/mien.nmconnection" <"$SETTINGS/wifi.nmconnection"
    country=$(setting country)
    if command -v raspi-config >/dev/null; then
        raspi-config nonint do_wifi_country "$country"
    elif command -v rfkill >/dev/null; then
        rfkill unblock wifi
    fi
    for switch in "$ROOT"/var/lib/systemd/rfkill/*:wlan; do
        if [ -f "$switch" ]; then echo 0 >"$switch"; fi
    done
    sync
    erase "$SETTINGS/wifi.nmconnection"
}

set_timezone() {
    zone=$(setting timezone)
    ln -sfn "/usr/share/zoneinfo/$zone" "$ROOT/etc/localtime"
    printf '%s\n' "$zone" | write 644 "$ROOT/etc/timezone"
}

blank_cmdline() {
    # In place and of the same length: one sector, which a power cut leaves old or new, but never half.
    old=$(cat "$BOOT/cmdline.txt")
    new=$(echo "$old" | sed -E 's/systemd\.(run|run_success_action|run_failure_action|unit)=[^ ]*//g')
    printf "%-${#old}s\n" "$new" | dd of="$BOOT/cmdline.txt" conv=notrunc,fsync 2>/dev/null
}

firstrun() {
    for step in hostname user wifi timezone; do
        case $step in wifi) file=wifi.nmconnection ;; *) file=$step ;; esac
        [ -f "$SETTINGS/$file" ] || continue
        # A process of its own: what fails in it ends that step and no other.
        sh "$0" "$step" || say "the $step could not be set; the rest goes on without it"
    done
    arrange
    sync
    blank_cmdline
    rm -f "$BOOT/firstrun.sh"
    sync
}

# --- what takes long is left to a service -----------------------------------------------------------------------------

arrange() {
    # What an earlier preparation of this card left is not of this one.
    if [ "$(cat "$STATE/id" 2>/dev/null || true)" != "$(setting id)" ]; then rm -rf "$STATE"; fi
    # Away from the boot partition, where it is removed in the end.
    put 755 "$KIT/first-boot.sh" "$STATE/first-boot.sh"
    setting id | write 644 "$STATE/id"
    put 644 "$KIT/$UNIT" "$UNITS/$UNIT"
    mkdir -p "$UNITS/multi-user.target.wants"
    ln -sfn "../$UNIT" "$UNITS/multi-user.target.wants/$UNIT"
}

cloud_init_was_cut() { # cloud-init does what it has begun only once, be it done or not
    this=$(cat "$ROOT/proc/sys/kernel/random/boot_id")
    last=$(cat "$STATE/boot" 2>/dev/null || true)
    printf '%s\n' "$this" | write 644 "$STATE/boot"
    if [ -n "$last" ]; then [ "$last" != "$this" ]; else
        # Cut off before it came here for the first time: the network was to be arranged by then.
        grep -q '"wifis"' "$BOOT/network-config" 2>/dev/null &&
            ! grep -qrs wlan0 "$ROOT/etc/netplan" "$ROOT/etc/NetworkManager/system-connections" "$ROOT/run/NetworkManager/system-connections"
    fi
}

bootcmd() {
    [ -f "$KIT/after/user-data" ] || return 0 # all is done
    arrange
    cuts=$(cat "$STATE/cuts" 2>/dev/null || echo 0)
    # Once it has come to an end, the secrets are taken from it (forget_secrets), and this is not called any more.
    if [ ! -e "$STATE/finished-once" ] && cloud_init_was_cut && [ "$cuts" -lt $MOST_CUTS ]; then
        echo $((cuts + 1)) | write 644 "$STATE/cuts"
        say "the last boot was cut off while cloud-init was at work; it begins anew"
        rm -f "$STATE/boot"
        sync
        cloud-init clean
        systemctl reboot
        return 0
    fi
    if systemd_runs; then
        systemctl daemon-reload
        # Not waited for: it has to wait for cloud-init.
        systemctl start --no-block $UNIT
    fi
}

end_dialog() { # Raspberry Pi OS asks at the screen who the first user shall be; the boot, and cloud-init, wait for the answer
    systemd_runs || return 0
    [ "$(systemctl is-active cloud-config.service)" = active ] || return 0 # it may make that user yet
    [ "$(systemctl is-active userconfig.service)" = activating ] || return 0
    say "nobody answers at the screen who the first user shall be; the boot goes on without"
    systemctl disable --quiet userconfig.service
    systemctl stop userconfig.service
}

wait_for_cloud_init() {
    [ -f "$BOOT/user-data" ] && [ -f "$KIT/after/user-data" ] || return 0
    [ ! -e "$STATE/finished-once" ] || return 0
    waited=0
    until [ -e "$CLOUD/instance/boot-finished" ]; do
        [ "$waited" -lt "$CLOUD_INIT_SECONDS" ] || die "cloud-init has not come to an end in $waited s; this is tried again"
        end_dialog
        sleep 2
        waited=$((waited + 2))
    done
    : >"$STATE/finished-once"
    sync
}

# --- settings and secrets of Mien -------------------------------------------------------------------------------------

take_settings() {
    for secret in "$KIT"/secrets/*; do
        [ -f "$secret" ] || continue
        mkdir -p "$ROOT/etc/credstore"
        chmod 700 "$ROOT/etc/credstore"
        write 600 "$ROOT/etc/credstore/${secret##*/}" <"$secret"
        sync
        erase "$secret"
    done
    if [ -f "$KIT/broker-ca.pem" ]; then put 644 "$KIT/broker-ca.pem" "$ROOT/etc/mien/broker-ca.pem"; fi
    # Before Mien comes, which starts with it and leaves one that is there alone.
    if [ -f "$KIT/mien.toml" ]; then
        put 644 "$KIT/mien.toml" "$ROOT/etc/mien/mien.toml"
        sync
        rm -f "$KIT/mien.toml"
    fi
}

forget_secrets() {
    erase "$SETTINGS/password" "$SETTINGS/wifi.nmconnection"
    for name in user-data network-config; do
        [ -f "$KIT/after/$name" ] || continue
        erase "$BOOT/$name"
        cp "$KIT/after/$name" "$BOOT/$name"
    done
    sync
    # cloud-init reads its own copies anew from the boot partition.
    for folder in "$CLOUD"/instances/*; do
        erase "$folder"/user-data.txt* "$folder"/cloud-config.txt "$folder"/network-config.json "$folder"/obj.pkl
    done
    for log in "$ROOT"/var/log/cloud-init.log "$ROOT"/var/log/cloud-init-output.log; do
        # shellcheck disable=SC2016  # dollars of hashes
        if [ -f "$log" ]; then sed -i -E 's/[0-9a-f]{64}|\$(5|6|y)\$[^ "]+/***/g' "$log"; fi
    done
}

# --- packages ---------------------------------------------------------------------------------------------------------

apt_get() { # ARGUMENT...: from the boot partition alone where packages came with it, else from the network
    set -- -o DPkg::Lock::Timeout=600 -o Acquire::Check-Date=false -o Acquire::Retries=3 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -qq -y "$@"
    if [ -z "${NETWORK:-}" ] && [ -f "$KIT/packages/Packages" ]; then
        mkdir -p "$WORK/lists/partial"
        # The index came the same way as this script; it has each package's SHA-256.
        printf 'deb [trusted=yes] file:%s ./\n' "$KIT/packages" >"$WORK/mien.list"
        set -- -o Dir::Etc::SourceList="$WORK/mien.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$WORK/lists" "$@"
    fi
    apt-get "$@" </dev/null
}

is_installed() { [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

install_wanted() { # nothing here keeps Mien from being installed
    for package in $WANTED; do
        is_installed "$package" || apt_get --no-install-recommends install "$package" || true
    done
    if ! is_installed python3-picamera2 && [ -f "$KIT/packages/Packages" ]; then
        # Debian has it not, so neither has the card; perhaps there is a network.
        NETWORK=yes
        if apt_get -o Acquire::Retries=0 -o Acquire::http::Timeout=20 update; then
            apt_get --no-install-recommends install python3-picamera2 || true
        fi
        NETWORK=
    fi
    is_installed python3-picamera2 ||
        say "there is no python3-picamera2, so only USB and network cameras will do; with a network: sudo apt install --no-install-recommends python3-picamera2"
}

install_mien() {
    dpkg --configure -a || true # a power cut while apt was at work
    apt_get update || die "apt cannot read its lists; without packages on the card this needs a network. It is tried again"
    apt_get --fix-broken install || true
    deb=$(find "$KIT" -maxdepth 1 -name 'mien_*.deb' | head -n 1)
    say "installing Debian's packages and Mien, which takes minutes"
    install_wanted
    if [ -n "$deb" ]; then
        apt_get --no-install-recommends --allow-downgrades install "$deb" || die "apt cannot install Mien (journalctl -u $UNIT says why); it is tried again"
    else
        # shellcheck disable=SC2086  # a list
        apt_get --no-install-recommends install $NEEDED || die "apt cannot install $NEEDED (journalctl -u $UNIT says why); it is tried again"
        bash "$KIT/wheelhouse/systemd/install.sh" || die "Mien's installer failed (journalctl -u $UNIT says why); it is tried again"
    fi
    sync
}

finish() {
    rm -rf "$KIT" "$WORK"
    sync
    rm -f "$UNITS/multi-user.target.wants/$UNIT" "$UNITS/$UNIT"
    rm -rf "$STATE"
    sync
    if systemd_runs; then systemctl daemon-reload; fi
}

run() {
    if [ ! -e "$STATE/installed" ]; then
        wait_for_cloud_init
        take_settings
        forget_secrets
        install_mien
        systemctl enable --quiet mien.service
        if systemd_runs; then systemctl start --no-block mien.service; fi
        say "Mien is installed; its service starts at every boot from now on"
        : >"$STATE/installed"
        sync
    fi
    finish
}

# One command, read to its end before it runs: the file that it stands in is removed by it.
{
    case ${1:-} in
        firstrun) firstrun ;;
        bootcmd) bootcmd ;;
        run) run ;;
        hostname) set_hostname ;;
        user) set_user ;;
        wifi) set_wifi ;;
        timezone) set_timezone ;;
        *) echo "usage: first-boot.sh firstrun | bootcmd | run" >&2 && exit 64 ;;
    esac
    exit 0
}
