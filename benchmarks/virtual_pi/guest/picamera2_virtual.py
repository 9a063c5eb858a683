"""What picamera2 0.3 lacks for libcamera's virtual camera. It goes into the virtual Pi's image alone.

The virtual camera has no raw modes, its buffers are libcamera's own (there is no /dev/dma_heap), and a finished
buffer does not say how many of its bytes were used.
"""

import mmap

import libcamera
from picamera2 import picamera2
from picamera2.allocators import LibcameraAllocator
from picamera2.allocators.allocator import Allocator, Sync


class WholeBuffer(Sync):
    """Maps all of a buffer."""

    def __init__(self, allocator, buffer, write):
        self._planes = buffer.planes

    def __enter__(self):
        length = sum(plane.length for plane in self._planes)
        self._memory = mmap.mmap(self._planes[0].fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        return self._memory

    def __exit__(self, *error):
        self._memory.close()


class CameraAllocator(LibcameraAllocator):
    """Buffers from the camera, which is told of later."""

    def __init__(self):
        Allocator.__init__(self)
        self.sync = WholeBuffer


class Picamera2(picamera2.Picamera2):
    """picamera2's own class with what the virtual camera needs."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.allocator.camera = self.camera

    def _get_raw_modes(self):
        formats = self.camera.generate_configuration([libcamera.StreamRole.Viewfinder]).at(0).formats
        return [
            {"format": str(pixel), "size": (size.width, size.height)}
            for pixel in formats.pixel_formats
            for size in formats.sizes(pixel)
        ]


picamera2.DmaAllocator = CameraAllocator
