//! Connecting to one of several addresses of a host, as in RFC 8305 ("happy eyeballs"): a dead route does not hide a working
//! one.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

/// Time before the next address is tried as well (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to the first address that answers. The caller limits the time.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = tokio::net::lookup_host((host, port)).await?;
    race(interleaved(addresses.collect()), TcpStream::connect).await
}

/// Returns the addresses in their order, but alternating between IPv6 and IPv4.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let ipv6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|it| it.is_ipv6() == ipv6_first);
    let mut all = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let before = all.len();
        all.extend(first.next());
        all.extend(second.next());
        if all.len() == before {
            return all;
        }
    }
}

/// Tries the addresses in order, each once the one before it has failed or is slow. Returns the first that connects.
async fn race<S, F>(addresses: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<S>
where
    F: Future<Output = io::Result<S>>,
{
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failure = None;
    loop {
        if let Some(address) = waiting.next() {
            let attempt = connect(address);
            running.push(async move { attempt.await.map_err(|error| (address, error)) });
        }
        let more = waiting.len() > 0;
        tokio::select! {
            ended = running.next() => match ended {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err((address, error))) => {
                    failure = Some(io::Error::new(error.kind(), format!("{address}: {error}")));
                }
                None => {
                    let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                    return Err(failure.unwrap_or_else(none));
                }
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if more => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::time::Instant;

    fn addresses(all: &[&str]) -> Vec<SocketAddr> {
        all.iter().map(|address| format!("{address}:25").parse().unwrap()).collect()
    }

    /// Races the addresses. Returns the address that connected, the time it took, and the number of attempts. Addresses
    /// under `[2001:db8::d…]` never answer, and those under `[2001:db8::f…]` refuse at once.
    async fn race_result(all: &[&str]) -> (io::Result<SocketAddr>, Duration, usize) {
        let (begun, attempts) = (Instant::now(), Mutex::new(0));
        let connect = |address: SocketAddr| {
            *attempts.lock().unwrap() += 1;
            async move {
                let text = address.to_string();
                if text.contains("::d") {
                    std::future::pending::<()>().await;
                }
                if text.contains("::f") {
                    return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
                }
                Ok(address)
            }
        };
        let result = race(interleaved(addresses(all)), connect).await;
        (result, begun.elapsed(), *attempts.lock().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_working_ipv4_address_is_reached_behind_dead_ipv6_ones() {
        let (reached, took, attempts) = race_result(&["[2001:db8::d1]", "[2001:db8::d2]", "192.0.2.1"]).await;
        assert_eq!(reached.unwrap(), addresses(&["192.0.2.1"])[0]);
        assert!(took < Duration::from_millis(300) && attempts == 2, "{took:?} {attempts}");
        let (reached, took, _) = race_result(&["[2001:db8::d1]", "[2001:db8::d2]", "[2001:db8::1]"]).await;
        assert_eq!(reached.unwrap(), addresses(&["[2001:db8::1]"])[0]);
        assert!(took < Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_working_first_address_is_the_only_one_that_is_tried() {
        let (reached, took, attempts) = race_result(&["[2001:db8::1]", "192.0.2.1"]).await;
        assert_eq!((reached.unwrap(), took, attempts), (addresses(&["[2001:db8::1]"])[0], Duration::ZERO, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_followed_by_the_next_address_at_once() {
        let (reached, took, _) = race_result(&["[2001:db8::f1]", "[2001:db8::f2]", "192.0.2.1"]).await;
        assert_eq!((reached.unwrap(), took), (addresses(&["192.0.2.1"])[0], Duration::ZERO));
        let (none, _, attempts) = race_result(&["[2001:db8::f1]", "[2001:db8::f2]"]).await;
        assert!(none.unwrap_err().to_string().contains("[2001:db8::f2]:25: "));
        assert_eq!(attempts, 2);
        assert!(race_result(&[]).await.0.unwrap_err().to_string().contains("no address"));
    }

    #[test]
    fn addresses_alternate_between_the_families() {
        let all = ["[::1]", "[::2]", "[::3]", "10.0.0.1", "10.0.0.2"];
        let expected = ["[::1]", "10.0.0.1", "[::2]", "10.0.0.2", "[::3]"];
        assert_eq!(interleaved(addresses(&all)), addresses(&expected));
        assert_eq!(
            interleaved(addresses(&["10.0.0.1", "[::1]", "10.0.0.2"])),
            addresses(&["10.0.0.1", "[::1]", "10.0.0.2"])
        );
    }
}
