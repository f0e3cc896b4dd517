//! The bare loop: the least work for the same responses with this HTTP client and parser. It reads, parses and
//! discards.

use futures_util::StreamExt;
use serde::Deserialize;

/// Number of concurrent reads, as in the service.
pub const CONCURRENT_READS: usize = 16;

#[derive(Deserialize)]
struct BareBalance<'a> {
    balance: &'a str,
    #[serde(rename = "currency")]
    _currency: &'a str,
}

/// Creates an HTTP client with default settings.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Reads divisions 1 to `divisions` once.
pub async fn cycle(client: &reqwest::Client, base: &str, divisions: u64) {
    futures_util::stream::iter(1..=divisions)
        .map(|id| async move {
            let url = format!("{base}/finance/balance?container_id={id}");
            let answer = client.get(url).header("x-dc-devkey", "bench-api-key").send().await.unwrap();
            let body = answer.bytes().await.unwrap();
            assert!(!serde_json::from_slice::<BareBalance<'_>>(&body).unwrap().balance.is_empty());
        })
        .buffer_unordered(CONCURRENT_READS)
        .for_each(|()| async {})
        .await;
}
