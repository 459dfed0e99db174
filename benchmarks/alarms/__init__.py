"""Replay two weeks of recorded traces as a fleet and compare every alarm with them."""
