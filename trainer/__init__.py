"""The training floor: FER2013 and other face data in, a Keras model out. Runs on a workstation, never on a Pi."""
