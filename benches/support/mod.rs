//! Shared parts of the benchmarks: the stand-in, the bare loop, and the figures of a process.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // every benchmark uses its own part, and panicking ends it

pub mod bare;
pub mod process;
pub mod stand_in;
