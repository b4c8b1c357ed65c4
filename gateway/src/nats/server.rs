//! What is found of the server while it serves: whether it does all that the configuration promises, and what it did not
//! permit. Neither keeps a pod from serving, so it stays ready; `/status` tells it.

use std::time::Duration;

use sse_crds::SseGatewaySpec;
use tokio::time::sleep;

use super::Link;
use super::status::{Server, Status};

/// How often the server's word is looked at: after a reconnection it may be another's.
const LOOK: Duration = Duration::from_secs(1);
/// The first version that knows `Nats-TTL`.
const OLDEST: (u32, u32) = (2, 11);

/// Looks, for ever.
pub async fn watch(link: &Link, spec: &SseGatewaySpec, status: &Status) {
    loop {
        let info = link.client().try_server_info();
        let unfit = info.and_then(|info| unfit(spec, &info.version, info.max_payload));
        let denied = link.state.borrow().denied.clone();
        status.set_server(Server { unfit, denied });
        sleep(LOOK).await;
    }
}

/// Why a server of this version, which takes messages of so many bytes, does not fit.
fn unfit(spec: &SseGatewaySpec, version: &str, takes: usize) -> Option<String> {
    let most = spec.limits.max_payload_bytes;
    if usize::try_from(most).is_ok_and(|most| most > takes) {
        return Some(format!(
            "limits.maxPayloadBytes: is {most}, but the NATS server takes no message of more than {takes} bytes (max_payload)"
        ));
    }
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    let found = (numbers.next()??, numbers.next()??);
    let old = spec.replay.enabled && found < OLDEST;
    old.then(|| format!("nats.url: the server has version {version}; with a log 2.11 or later is needed"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_that_is_too_old_or_takes_too_little_does_not_fit() {
        let found = |replay: bool, version, takes| {
            let spec = json!({"nats": {"url": "nats://n"}, "auth": {"issuers": []},
                "limits": {"maxPayloadBytes": 1000}, "replay": {"enabled": replay}});
            unfit(&serde_json::from_value(spec).expect("a spec"), version, takes).unwrap_or_default()
        };
        for (replay, version, takes, said) in [
            (true, "2.11.0", 1000, ""),
            (true, "3.0.0-RC.1", 1001, ""),
            (true, "somebody's own", 1000, ""),
            (false, "2.9.1", 1000, ""),
            (true, "2.10.29", 1000, "nats.url: the server has version 2.10.29"),
            (
                false,
                "2.11.0",
                999,
                "limits.maxPayloadBytes: is 1000, but the NATS server takes no message of more than 999",
            ),
        ] {
            let found = found(replay, version, takes);
            assert!(
                found.starts_with(said) && found.is_empty() == said.is_empty(),
                "{version} {takes}: {found}"
            );
        }
    }
}
