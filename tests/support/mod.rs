//! What integration tests share: one real server a protocol, and the values that messages are made of.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)] // every test binary uses its own part

pub mod bench;
pub mod faults;
pub mod life;
pub mod sample;
pub mod service;
pub mod smtp;
