//! What the tests of this suite share: servers, clocks, the real binary, and the values that messages are made of.

pub(crate) mod account_policy;
pub(crate) mod bin;
pub(crate) mod delivery;
pub(crate) mod faults;
pub(crate) mod hostile;
pub(crate) mod sample;
pub(crate) mod service;
pub(crate) mod smtp;
pub(crate) mod stepped;
pub(crate) mod webhook_schema;
