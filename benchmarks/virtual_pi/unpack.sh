#!/bin/bash
# A hook of mmdebstrap: installs packages in ROOT. This machine's dpkg unpacks them, which an emulated one does ten times
# slower; it cannot configure them, as it takes those for every architecture for its own.
#
# usage: unpack.sh ROOT    with WANTED and LEFT_OUT in the environment
set -eu
root=$1
export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
read -ra packages <<<"$WANTED"
read -ra patterns <<<"$LEFT_OUT"
apt-get -qq -y --no-install-recommends --download-only install "${packages[@]}"
dpkg --root="$root" --force-depends --force-unsafe-io --skip-same-version "${patterns[@]/#/--path-exclude=}" \
    --unpack "$root"/var/cache/apt/archives/*.deb
chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    dpkg --force-unsafe-io --configure -a
rm "$root"/var/cache/apt/archives/*.deb
