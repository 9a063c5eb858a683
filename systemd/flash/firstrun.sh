#!/bin/sh
# Named in cmdline.txt, where Raspberry Pi OS Bookworm looks for it; mien-flash put both here.
exec sh /boot/firmware/mien/first-boot.sh firstrun
