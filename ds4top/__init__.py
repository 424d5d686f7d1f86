"""ds4top: the instrument panel for ds4-server on a DGX Spark."""

__version__ = "0.1.0"
