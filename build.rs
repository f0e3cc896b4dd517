//! Packs the binary's relocations where the C library that it is built on can read them: a tenth of the file otherwise.
//!
//! Most of them are in the tables of time zones. A library before glibc 2.36 would refuse to start the result, so whoever
//! builds on, or for, another one gets the plain form.

use std::process::Command;

/// The first glibc that knows packed relocations.
const SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let (host, target) = (std::env::var("HOST"), std::env::var("TARGET"));
    let native = host.is_ok() && host == target && target.is_ok_and(|target| target.ends_with("-linux-gnu"));
    if native && glibc().is_some_and(|version| version >= SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library, as `getconf` says it: `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(told.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
