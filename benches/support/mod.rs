//! What the benchmarks share: the stand-in that answers, the bare loop that is the limit, and the figures of a process.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // every benchmark uses its own part, and panicking ends it

pub mod bare;
pub mod process;
pub mod stand_in;
