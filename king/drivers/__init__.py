"""Drivers: each an async function that turns the world into ova, and effects
into the world. They hold nothing but the capabilities they were given."""
