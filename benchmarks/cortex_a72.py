"""A Pi 4's processor, as QEMU emulates it: without the instructions of later ones."""

PROCESSOR = "cortex-a72"
"""For QEMU: `-cpu`, and `$QEMU_CPU` in its user mode."""

CORE = """\
processor	: {number}
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3

"""


def cpuinfo(cores: int = 4) -> str:
    """What `/proc/cpuinfo` says on it. In QEMU's user mode that file is the host's, whose features would be used."""
    return "".join(CORE.format(number=number) for number in range(cores))
