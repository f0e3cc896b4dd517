//! Processes that die or stand still: killed at any step, and on a disk that is full, damaged, hanging or gone.
//!
//! `LOWTIDE_LONG=1` tries much more.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)] // panicking is how a test ends

#[expect(dead_code, reason = "tests/it uses the rest of it")]
#[path = "../support/bin.rs"]
mod bin;
mod crash;
mod disk;
mod month;
#[expect(dead_code, reason = "tests/it uses the rest of it")]
#[path = "../support/stepped.rs"]
mod stepped;
