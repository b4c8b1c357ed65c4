//! What NATS' own command would do. The Go module proxy refuses it, so the words that it is given are done by our
//! client, as far as the pages have them; any other is an error.

use anyhow::{Context as _, Result, bail};
use futures::TryStreamExt as _;

use crate::publisher::Publisher;

/// Does what one call asks for. Returns what it would show: the names of streams, or the last thing said on a subject.
///
/// # Errors
///
/// When it can not be done, or no page has such words.
pub async fn done(call: &[String], nats: &Publisher) -> Result<String> {
    let words: Vec<&str> = call.iter().map(String::as_str).collect();
    match words[..] {
        ["pub", subject, data, ref headers @ ..] => {
            let headers = headers.chunks(2).map(|pair| match *pair {
                ["-H", header] => header.split_once(':').context("name:value"),
                _ => bail!("no option of a publisher: {pair:?}"),
            });
            let headers = headers.collect::<Result<Vec<_>>>()?;
            nats.publish_with(subject, &headers, data).await.map(|sequence| sequence.to_string())
        }
        ["stream", "info", stream] => {
            Ok(nats.jetstream.get_stream(stream).await?.get_info().await?.config.name)
        }
        ["stream", "report"] => Ok(nats.jetstream.stream_names().try_collect::<Vec<_>>().await?.join("\n")),
        ["stream", "rm", stream] => {
            nats.jetstream.delete_stream(stream).await?;
            Ok(String::new())
        }
        ["kv", "del", bucket] => {
            nats.jetstream.delete_key_value(bucket).await?;
            Ok(String::new())
        }
        _ => bail!("no page has nats {words:?}"),
    }
}
