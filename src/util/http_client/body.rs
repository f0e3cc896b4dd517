//! Bounded reading of response bodies.

use reqwest::Response;

use super::{TransportError, explain};

/// Longest part of any response body that is read.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A response body of at most [`MAX_BODY_BYTES`] bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseBody {
    /// The whole body, or its beginning if it is `truncated`.
    pub bytes: Vec<u8>,
    /// True if the body is longer than [`MAX_BODY_BYTES`].
    pub truncated: bool,
}

/// Reads a body chunk by chunk, and stops at [`MAX_BODY_BYTES`]. A connection that breaks before the end is an error.
pub async fn read_body(response: Response) -> Result<ResponseBody, TransportError> {
    read_up_to(response, MAX_BODY_BYTES).await
}

async fn read_up_to(mut response: Response, limit: usize) -> Result<ResponseBody, TransportError> {
    let mut body = ResponseBody::default();
    while !body.truncated {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => return Err(explain(&error).await),
        };
        let space = limit - body.bytes.len();
        body.truncated = chunk.len() > space;
        body.bytes.extend_from_slice(&chunk[..chunk.len().min(space)]);
    }
    Ok(body)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{TransportErrorKind, plain_client};
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Requests this response from a server that closes the connection after it, and reads its body up to `limit`
    /// bytes.
    async fn read(response: &'static str, limit: usize) -> Result<ResponseBody, TransportError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(response.as_bytes()).await;
        });
        let client = plain_client(Duration::from_secs(10)).unwrap();
        read_up_to(client.get(url).send().await.unwrap(), limit).await
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_the_limit() {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for (limit, bytes, truncated) in [(6, "hello", false), (5, "hello", false), (4, "hell", true), (0, "", true)] {
            let expected = ResponseBody { bytes: bytes.into(), truncated };
            assert_eq!(read(response, limit).await, Ok(expected), "{limit}");
        }
        let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(read(empty, 0).await, Ok(ResponseBody::default()));
    }

    #[tokio::test]
    async fn a_body_that_ends_early_is_a_broken_connection() {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello";
        assert_eq!(read(response, 9).await.unwrap_err().kind, TransportErrorKind::Broken);
    }
}
