#!/bin/bash
# Runs the scripts that come through the virtual serial port as lines of base64, and answers each with its exit code
# and what it said.
port=/dev/virtio-ports/virtual-pi
until [ -c $port ]; do sleep 0.2; done
exec 3<>$port
while read -r -u 3 script; do
    code=0
    base64 -d <<<"$script" | bash >/run/virtual-pi.out 2>&1 || code=$?
    printf '%s %s\n' "$code" "$(base64 -w 0 /run/virtual-pi.out)" >&3
done
