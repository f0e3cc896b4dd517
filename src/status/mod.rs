//! What the running service publishes about itself: the control socket, HTTP endpoints, the heartbeat and systemd.

pub mod answers;
pub mod control;
pub mod heartbeat;
pub mod http;
pub mod registry;
pub mod systemd;
