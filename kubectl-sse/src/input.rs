//! Standard input, whole or not at all: what was cut off would be something else.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

/// The text to its end, which has to come in time.
///
/// # Errors
///
/// When it does not end in time, has more than `most` bytes, or is no UTF-8.
pub async fn whole(input: impl AsyncRead + Unpin, most: u64, within: Duration) -> Result<String> {
    let mut bytes = Vec::new();
    // One more, to see that there is more.
    let mut input = input.take(most.saturating_add(1));
    let length =
        timeout(within, input.read_to_end(&mut bytes)).await.context("standard input does not end")??;
    ensure!(length as u64 <= most, "standard input is longer than {most} bytes");
    String::from_utf8(bytes).context("standard input is no UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn what_is_too_long_is_refused_and_not_cut() {
        let read = async |length: u64, most| whole(tokio::io::repeat(b'a').take(length), most, SOON).await;
        assert_eq!(read(4, 4).await.expect("all of it"), "aaaa");
        assert_eq!(read(0, 4).await.expect("nothing"), "");
        let error = read(5, 4).await.expect_err("too long");
        assert_eq!(error.to_string(), "standard input is longer than 4 bytes");
    }

    #[tokio::test]
    async fn what_does_not_end_or_is_no_text_is_refused() {
        let (_open, input) = tokio::io::duplex(1);
        let error = whole(input, 4, Duration::ZERO).await.expect_err("no end");
        assert!(error.to_string().contains("does not end"), "{error}");
        // The error does not repeat what may be a secret.
        let error = format!("{:#}", whole(&b"hunter2\xff"[..], 40, SOON).await.expect_err("no text"));
        assert!(error.contains("no UTF-8") && !error.contains("hunter2"), "{error}");
    }
}
