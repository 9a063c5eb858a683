"""A whole Raspberry Pi that is not there: Debian's arm64 kernel in QEMU, the installed package, a libcamera camera."""
