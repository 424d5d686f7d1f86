"""Part of ds4top."""
