//! Handshakes a second, 64 at a time, and the streams stay open: with a token that is minted and redeemed, with
//! a JWT alone, and what the peers' clients do.

use anyhow::Result;
use serde_json::json;
use sse_tests::jwt::{ISSUER, IssuerKey, jwt_of_anything, now};
use sse_tests::raw;

use super::Bench;
use super::stage::Stage;
use crate::figures::Figures;
use crate::party::ours::Ours;
use crate::party::{Audience, Name};

/// Handshakes before those that count.
const WARM: u32 = 500;

pub async fn run(bench: &Bench, figures: &mut Figures) -> Result<()> {
    for name in bench.turns(&Name::ALL, bench.repeats.min(3)) {
        let measured = plain(bench, name, figures).await;
        figures.told("handshakes", name, measured);
        if name == Name::Ours {
            let measured = minted(bench, figures).await;
            figures.told("handshakes", name, measured);
            let measured = rs256(bench, figures).await;
            figures.told("handshakes", name, measured);
        }
    }
    Ok(())
}

/// What a client of the party sends; the gateway's a JWT, signed by HS256.
async fn plain(bench: &Bench, name: Name, figures: &mut Figures) -> Result<()> {
    let count = bench.count(10_000, 500);
    let mut stage = Stage::start(bench, name).await?;
    stage.grow(WARM, Audience::All).await?;
    let meter = stage.meter()?;
    let took = stage.grow(WARM + count, Audience::All).await?;
    tell(&stage, ("handshakes.jwt", "handshakes.jwt.cpu"), count, took, &meter, figures)?;
    stage.complete().await
}

fn tell(
    stage: &Stage,
    (rate, cpu): (&str, &str),
    count: u32,
    took: std::time::Duration,
    meter: &super::stage::Meter,
    figures: &mut Figures,
) -> Result<()> {
    figures.add(rate, stage.name, f64::from(count) / took.as_secs_f64());
    figures.add(cpu, stage.name, meter.spent()?.0.as_secs_f64() * 1e6 / f64::from(count));
    Ok(())
}

/// As a browser does: a POST for the token, then the stream, on the same connection unless the gateway closes it.
async fn minted(bench: &Bench, figures: &mut Figures) -> Result<()> {
    let count = bench.count(10_000, 500);
    let mut stage = Stage::start(bench, Name::Ours).await?;
    stage.open((0..WARM).map(token_request).collect(), true).await?;
    let requests = (WARM..WARM + count).map(token_request).collect();
    let meter = stage.meter()?;
    let took = stage.open(requests, true).await?;
    tell(&stage, ("handshakes.token", "handshakes.token.cpu"), count, took, &meter, figures)?;
    stage.complete().await
}

/// What asks for a token. There may be very many, too many for the tests' list of secrets.
pub fn token_request(user: u32) -> (u32, Vec<u8>) {
    let jwt = jwt_of_anything("acme", &format!("user-{user}"));
    let head = "POST /api/v1/sse/token HTTP/1.1\r\nHost: x\r\nContent-Length: 0";
    (user, format!("{head}\r\nAuthorization: Bearer {jwt}\r\n\r\n").into_bytes())
}

/// A JWT signed by RS256, each another one.
async fn rs256(bench: &Bench, figures: &mut Figures) -> Result<()> {
    let count = bench.count(2_000, 10);
    let key = IssuerKey::rsa("bench");
    let patch = json!({"auth": {"issuers": [{
        "issuer": ISSUER, "algorithms": ["RS256"], "keySecretRef": {"name": "rsa", "key": "key"},
    }]}});
    let party = Ours::start_with(&bench.world, patch, &[("rsa", &key.public)]).await?;
    let mut stage = Stage::of(bench, Name::Ours, Box::new(party))?;
    let request = |user: u32| {
        let claims =
            json!({"iss": ISSUER, "sub": format!("user-{user}"), "tenant": "acme", "exp": now() + 3600});
        (user, raw::request(&key.sign(&claims), "").into_bytes())
    };
    let warm = WARM.min(count);
    stage.open((0..warm).map(request).collect(), false).await?;
    let requests = (warm..warm + count).map(request).collect();
    let meter = stage.meter()?;
    let took = stage.open(requests, false).await?;
    tell(&stage, ("handshakes.rs256", "handshakes.rs256.cpu"), count, took, &meter, figures)?;
    stage.complete().await
}
