"""Cost of a network, timing, and the hardware and versions of a measurement."""
