//! Credentials without end that are none: tokens, which NATS is asked for, and JWTs, whose signatures are looked at. They
//! come on new connections of HTTP/1.1, and on few of HTTP/2.

use anyhow::{Result, ensure};
use hyper::Method;
use jsonwebtoken::Algorithm;
use serde_json::json;
use sse_tests::client::Client;
use sse_tests::h2::Http2;
use sse_tests::jwt::{ISSUER, now, signed};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::served;

const ATTACKERS: usize = 200;
/// Forged by each attacker, so that none that was seen is seen again soon.
const FORGED: usize = 20;

#[derive(Clone, Copy, Debug)]
enum Version {
    Http1,
    Http2,
}

/// What an attacker asks with.
enum Bad {
    Token,
    /// Good but for the key: who looks only at the claims lets it in.
    Jwts(Vec<String>),
}

impl Bad {
    fn jwts() -> Self {
        let forge = |_| {
            let user = format!("{:032x}", rand::random::<u128>());
            let claims = json!({"iss": ISSUER, "sub": user, "tenant": "acme", "exp": now() + 600});
            signed(&claims, "another key", Algorithm::HS256)
        };
        Self::Jwts((0..FORGED).map(forge).collect())
    }

    /// The request of a turn.
    fn request(&self, turn: usize) -> (Method, String, Option<String>) {
        match self {
            Self::Token => {
                let token = format!("{:032x}", rand::random::<u128>());
                (Method::GET, format!("/api/v1/sse/stream?token={token}"), None)
            }
            Self::Jwts(jwts) => {
                let bearer = Some(format!("Bearer {}", jwts[turn % jwts.len()]));
                // At either door.
                if turn.is_multiple_of(2) {
                    (Method::GET, "/api/v1/sse/stream".into(), bearer)
                } else {
                    (Method::POST, "/api/v1/sse/token".into(), bearer)
                }
            }
        }
    }
}

/// Asks again and again until the attack is over, and is refused each time.
async fn ask(client: Client, version: Version, bad: Bad, over: CancellationToken) -> Result<usize> {
    let mut http2 = match version {
        Version::Http1 => None,
        Version::Http2 => Some(Http2::through(&client.gateway).await?),
    };
    let mut refused = 0;
    while !over.is_cancelled() {
        let (method, path, bearer) = bad.request(refused);
        let headers = bearer.as_deref().map(|bearer| ("authorization", bearer));
        let status = match &mut http2 {
            None => client.request(method, &path, headers.as_slice()).await?.status.as_u16(),
            Some(http2) => http2.status(method, &path, headers.as_slice()).await?,
        };
        ensure!(status == 401, "{status}");
        refused += 1;
    }
    Ok(refused)
}

async fn flood(version: Version, bad: impl Fn() -> Bad) -> Result<()> {
    let served = served(json!({})).await?;
    let stranger = Client { gateway: served.gateway.address.into(), base: String::new(), jwt: String::new() };
    served
        .during(async |over| {
            let asking = (0..ATTACKERS).map(|_| ask(stranger.clone(), version, bad(), over.clone()));
            let mut attackers: JoinSet<Result<usize>> = asking.collect();
            let mut refused = 0;
            while let Some(attacker) = attackers.join_next().await {
                refused += attacker??;
            }
            println!("{refused} refused over {version:?}");
            ensure!(refused > 10 * ATTACKERS, "that is no flood: {refused}");
            Ok(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_keep_nobody_out() -> Result<()> {
    flood(Version::Http1, || Bad::Token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_over_http2_keep_nobody_out() -> Result<()> {
    flood(Version::Http2, || Bad::Token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_jwts_keep_nobody_out() -> Result<()> {
    flood(Version::Http1, Bad::jwts).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_jwts_over_http2_keep_nobody_out() -> Result<()> {
    flood(Version::Http2, Bad::jwts).await
}
