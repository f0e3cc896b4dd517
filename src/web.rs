//! One way to build an HTTP client: rustls, no redirects, a timeout, own CAs, no proxy for loopback, bodies read up to a cap.
