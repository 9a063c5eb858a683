#!/bin/bash
# Puts Mien and its camera into the image; run in it, with what is to be installed in /mnt/kit.
set -eu
kit=/mnt/kit
here=/usr/local/lib/virtual-pi
echo virtual-pi >/etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 virtual-pi\n' >/etc/hosts
: >/etc/machine-id
install -d $here /etc/systemd/system/mien.service.d /boot/firmware
install -m 644 $kit/guest/fstab /etc/fstab
install -m 755 $kit/guest/agent.sh $kit/guest/freeze_thread.py $here
install -m 644 $kit/guest/virtual-pi-agent.service /etc/systemd/system
install -D -m 644 $kit/guest/qemu.network /etc/systemd/network/qemu.network
install -D -m 644 $kit/guest/timesyncd.conf /etc/systemd/timesyncd.conf.d/virtual-pi.conf
systemctl enable --quiet virtual-pi-agent.service systemd-networkd.service systemd-timesyncd.service
systemctl mask --quiet systemd-networkd-wait-online.service
passwd -d root

cp -r $kit/site/. /usr/local/lib/python3.13/dist-packages
cp -r $kit/frames $here
python3 -m compileall -q -x '/tests?/' /usr/lib/python3/dist-packages /usr/local/lib/python3.13/dist-packages
install -D -m 644 $kit/guest/virtual.yaml /usr/share/libcamera/pipeline/virtual/virtual.yaml
install -m 644 $kit/guest/udmabuf.rules /etc/udev/rules.d/60-udmabuf.rules
install -m 644 $kit/guest/unit.conf /etc/systemd/system/mien.service.d/virtual-pi.conf

if [ -f $kit/mien.deb ]; then
    dpkg --force-confold -i $kit/mien.deb
    install -m 644 $kit/guest/mien.toml /etc/mien/mien.toml
else
    # For the first boot to install, from a boot partition and by cloud-init as in Raspberry Pi OS.
    cat $kit/guest/boot.fstab >>/etc/fstab
    install -D -m 644 $kit/guest/cloud.cfg /etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg
    install -D -m 644 $kit/guest/seed.conf /etc/systemd/system/cloud-init-local.service.d/virtual-pi.conf
fi
