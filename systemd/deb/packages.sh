#!/bin/bash
# Fills dist/packages-RELEASE with what Mien needs of Debian beyond the smallest system: .debs, an index with
# their SHA-256, and the release's name. `mien-flash --packages` puts it on a card, whose first boot then needs no
# network. apt checks every file against Debian's signatures; the system's own apt is left alone.
#
# usage: packages.sh RELEASE [FOLDER [arm64 | amd64]]        RELEASE: bookworm or trixie
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8
release=${1:-}
case $release in
    bookworm | trixie) ;;
    *) echo "packages.sh: the release is ${release:-missing}; expected bookworm or trixie" >&2 && exit 64 ;;
esac
cd "$(dirname "$0")/../.."
house=${2:-dist/packages-$release}
architecture=${3:-arm64}
mirror=${MIEN_MIRROR:-http://deb.debian.org}
needed=(python3-venv python3-numpy python3-opencv opencv-data python3-cryptography)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f $keys ] || { echo "packages.sh: Debian's keys are not here; apt install debian-archive-keyring" >&2 && exit 69; }

work=$(mktemp -d)
trap 'rm -rf "$work" "$house.part"' EXIT
mkdir -p "$work"/{etc/apt/preferences.d,etc/apt/apt.conf.d,lists/partial,cache/archives/partial}
: >"$work/status"
cat >"$work/apt.conf" <<CONF
Dir "$work";
Dir::Etc "$work/etc/apt";
Dir::State "$work";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
for suite in "debian $release" "debian $release-updates" "debian-security $release-security"; do
    echo "deb [signed-by=$keys] $mirror/$suite main"
done >"$work/etc/apt/sources.list"
export APT_CONFIG=$work/apt.conf
echo "reading Debian's lists for $release, $architecture"
apt-get -qq update || { echo "packages.sh: $mirror cannot be reached" >&2 && exit 69; }

wanted() { # PACKAGE...: name=version of all that must be there for them
    apt-get -qq --simulate install "$@" | sed -nE 's/^Inst ([^ ]+) \(([^ ]+) .*/\1=\2/p' | sed "s/:$architecture=/=/" | sort
}

# debootstrap's system, which Raspberry Pi OS is built on. What else an image has, apt leaves alone.
# shellcheck disable=SC2016  # apt fills it in
apt-get indextargets --format '$(FILENAME)' 'Created-By: Packages' | while read -r list; do
    /usr/lib/apt/apt-helper cat-file "$list"
done | awk -v RS= '/\nPriority: (required|important)\n/ { sub("Package: ", "", $0); sub("\n.*", "", $0); print }' |
    grep -vxE 'info|ifupdown' | sort -u >"$work/base"
mapfile -t base <"$work/base"
wanted "${base[@]}" >"$work/small"
wanted "${base[@]}" "${needed[@]}" >"$work/large"
mapfile -t extra < <(comm -13 "$work/small" "$work/large")

rm -rf "$house.part"
mkdir -p "$house.part"
echo "fetching ${#extra[@]} packages"
(cd "$house.part" && apt-get -qq download "${extra[@]}")
echo "$release" >"$house.part/release"
for deb in "$house.part"/*.deb; do
    # A colon's %3a would be read as a colon again, which FAT cannot have.
    plain=${deb//%3a/_}
    [ "$plain" = "$deb" ] || mv "$deb" "$plain"
    dpkg-deb --field "$plain"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$(basename "$plain")" "$(stat -c %s "$plain")" \
        "$(sha256sum "$plain" | cut -d ' ' -f 1)"
done >"$house.part/Packages"
rm -rf "$house"
mv "$house.part" "$house"
echo "$house: $(du -sh "$house" | cut -f 1); put it on a card with mien-flash --packages $house"
