//! End to end, on a real cluster.
