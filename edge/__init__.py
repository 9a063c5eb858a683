"""The daemon's floor: cameras, faces, expressions, events. Imports numpy, OpenCV, an interpreter and paho alone."""

__version__ = "0.1.0"
