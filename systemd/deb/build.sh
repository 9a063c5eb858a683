#!/bin/bash
# Makes dist/mien_VERSION_ARCHITECTURE.deb from dist/wheelhouse. It holds the wheels for both releases, so that
# `apt install ./mien_*.deb` asks nobody but Debian's archive for anything.
#
# usage: build.sh [arm64 | amd64] [WHEELHOUSE] [FOLDER]
set -euo pipefail
umask 022
cd "$(dirname "$0")/../.."
architecture=${1:-arm64}
house=${2:-dist/wheelhouse}
target=${3:-dist}
case $architecture in
    arm64) foreign=x86_64 ;;
    amd64) foreign=aarch64 ;;
    *) echo "build.sh: the processor is $architecture; expected arm64 or amd64" >&2 && exit 64 ;;
esac
[ -f "$house/wheels/mien.txt" ] || { echo "build.sh: $house holds no wheels; run: make wheelhouse" >&2 && exit 66; }
version=$(sed -n 's/^mien==\([^ ]*\).*/\1/p' "$house/wheels/mien.txt")
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1700000000)}
export SOURCE_DATE_EPOCH

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
install -d "$root"/{DEBIAN,etc/mien,usr/bin,usr/share/mien/{systemd,wheels},usr/share/doc/mien}
install -d "$root"/usr/lib/{systemd/system,sysusers.d}

cp "$house"/wheels/* "$root/usr/share/mien/wheels"
rm "$root"/usr/share/mien/wheels/*_"$foreign".whl
install -m 755 "$house/systemd/install.sh" "$root/usr/share/mien/systemd"
install -m 644 "$house"/systemd/constraints-{bookworm,trixie}.txt "$root/usr/share/mien/systemd"
install -m 644 "$house/systemd/mien.service" "$root/usr/lib/systemd/system/mien.service"
install -m 644 "$house/systemd/mien.sysusers.conf" "$root/usr/lib/sysusers.d/mien.conf"
install -m 644 "$house/systemd/mien.toml" "$root/etc/mien/mien.toml"
install -m 644 "$house/README.md" "$house/docs/mien.toml" "$root/usr/share/doc/mien"
install -m 644 "$house/LICENSE" "$root/usr/share/doc/mien/copyright"
ln -s /opt/mien/venv/bin/mien "$root/usr/bin/mien"

echo /etc/mien/mien.toml >"$root/DEBIAN/conffiles"
for script in preinst postinst prerm postrm; do install -m 755 "$house/systemd/install.sh" "$root/DEBIAN/$script"; done
echo "interest-noawait /usr/bin/python3" >"$root/DEBIAN/triggers"
(cd "$root" && find etc usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
# The wheels are for the Pythons of the two releases; preinst refuses other systems by name.
cat >"$root/DEBIAN/control" <<CONTROL
Package: mien
Version: $version
Architecture: $architecture
Maintainer: Mien's authors <mien@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f 1)
Depends: python3 (>= 3.11), python3 (<< 3.14), python3-venv, python3-numpy, python3-opencv, opencv-data, systemd
Recommends: python3-picamera2, python3-gpiozero, python3-lgpio, python3-cryptography
Section: video
Priority: optional
Description: reads facial expressions on a Raspberry Pi
 A service that finds faces in a camera's picture, tells their expressions on the
 device itself, and publishes them as events to a log and over MQTT. Pictures stay
 on the machine.
 .
 Its settings are in /etc/mien/mien.toml; "mien doctor" says whether all is well.
CONTROL
# Uncompressed: wheels are compressed already.
mkdir -p "$target"
deb=$target/mien_${version}_$architecture.deb
dpkg-deb --root-owner-group -Znone --build "$root" "$deb.part" >/dev/null
mv "$deb.part" "$deb"
echo "$deb: $(du -h "$deb" | cut -f 1), install it with: sudo apt install ./$(basename "$deb")"
