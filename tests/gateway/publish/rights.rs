//! Who may publish, and to whom.

use anyhow::{Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use sse_tests::jwt::jwt_with;
use sse_tests::process::Nats;

use super::{EVENTS, gateway, place, service};
use crate::metrics::value;

/// Path, headers, and the status of the answer.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16);

#[tokio::test]
async fn a_credential_publishes_where_its_claim_says_and_nowhere_else() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({"auth": {"publishClaim": "may_publish"}})).await?;
    let user =
        |claims: Value| gateway.client("acme", "shop-service").with_claims("acme", "shop-service", claims);
    let list = user(json!({"may_publish": ["user.*", "topic.orders.>", "users", 7, "user."]}));
    let text = user(json!({"may_publish": "user.alice, all"}));
    let none = user(json!({"topics": [">"], "publish": [">"]}));
    for (client, subject, status) in [
        (&list, "user.alice", 202),
        (&list, "topic.orders.eu", 202),
        (&list, "topic.orders", 403),
        (&list, "topic.news", 403),
        (&list, "users", 202),
        (&list, "topics", 403),
        (&list, "all", 403),
        (&list, "user.alice.more", 403),
        (&list, "conn.0123456789abcdef0123456789abcdef", 403),
        (&text, "user.alice", 202),
        (&text, "user.bob", 403),
        (&text, "all", 202),
        (&none, "user.alice", 403),
        // A subject is always below the tenant of the credential.
        (&list, "sse.acme.user.alice", 403),
        (&list, "sse._platform.all", 403),
    ] {
        let answer = client.post(subject, &[("sse-users", "alice")], "x").await?;
        ensure!(answer.status == status, "{subject}: {} {}", answer.status, answer.body);
        if status == 403 {
            let problem: Value = serde_json::from_str(&answer.body)?;
            let detail = format!("The claim 'may_publish' of the credential grants no event to {subject}.");
            ensure!(problem["detail"] == detail && problem["status"] == 403, "{problem}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_good_credential_publishes_nothing_and_every_answer_is_counted() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let shop = service(&gateway, "acme", &json!([">"]));
    let bearer = format!("Bearer {}", shop.jwt);
    let token = shop.token().await?;
    let with_token = format!("{EVENTS}?token={token}");
    let in_query = format!("{EVENTS}?access_token={}", shop.jwt);
    let stranger = format!("Bearer {}x", shop.jwt);
    let cookie = format!("access_token={}", shop.jwt);
    let cases: [Case<'_>; 8] = [
        (EVENTS, &[], 401),
        (EVENTS, &[("authorization", &stranger)], 401),
        (EVENTS, &[("authorization", "Basic YTpi")], 401),
        (EVENTS, &[("cookie", &cookie)], 401),
        (&with_token, &[], 401),
        (&in_query, &[], 401),
        (EVENTS, &[("authorization", &bearer), ("tenant", "other")], 403),
        (EVENTS, &[("authorization", &bearer), ("tenant", "acme")], 202),
    ];
    for (path, headers, status) in cases {
        let mut headers = headers.to_vec();
        headers.push(("sse-subject", "all"));
        let answer = shop.request_with(Method::POST, path, &headers, "x").await?;
        ensure!(answer.status == status, "{headers:?}: {} {}", answer.status, answer.body);
    }
    // The token was not used up by it: it opens a stream.
    let stream = format!("/api/v1/sse/stream?token={token}&lastEventId=00000000-1-end");
    ensure!(shop.request(Method::GET, &stream, &[]).await?.status == 204);
    for _ in 0..3 {
        place(&shop.post("all", &[("nats-msg-id", "1")], "x").await?)?;
    }
    ensure!(shop.post("all", &[], "").await?.status == 400);
    let text = gateway.get("/metrics").await?.1;
    let expected =
        [("accepted", 2.0), ("duplicate", 2.0), ("unauthorized", 6.0), ("forbidden", 1.0), ("refused", 1.0)];
    for (result, expected) in expected {
        let there = value(&text, &format!("sse_server_publishes_total{{result=\"{result}\"}}"))?;
        ensure!((there - expected).abs() < 0.5, "{result}: {there}, not {expected}");
    }
    Ok(())
}

#[tokio::test]
async fn a_cookie_publishes_for_a_page_of_ours_and_for_no_foreign_one() -> Result<()> {
    let nats = Nats::start().await?;
    let modes = json!({"auth": {"modes": ["Token", "Cookie"], "cookie": {"name": "session"}}});
    let gateway = gateway(&nats, modes).await?;
    let client = gateway.client("acme", "alice");
    let cookie = format!("session={}", jwt_with("acme", "alice", json!({"publish": ["all"]})));
    let bearer = format!("Bearer {}", jwt_with("acme", "alice", json!({"publish": ["all"]})));
    let post = async |headers: &[(&str, &str)]| {
        let mut all = vec![("sse-subject", "all")];
        all.extend_from_slice(headers);
        client.request_with(Method::POST, EVENTS, &all, "x").await.map(|answer| answer.status.as_u16())
    };
    let cookie = ("cookie", cookie.as_str());
    // The client's `Host` is `gateway`.
    assert_eq!(post(&[cookie, ("origin", "https://gateway")]).await?, 202);
    assert_eq!(post(&[cookie]).await?, 202);
    assert_eq!(post(&[cookie, ("origin", "https://evil.example")]).await?, 403);
    assert_eq!(post(&[cookie, ("origin", "null")]).await?, 403);
    assert_eq!(post(&[cookie, ("sec-fetch-site", "same-site")]).await?, 403);
    assert_eq!(post(&[("cookie", "session=x")]).await?, 401);
    // What a page must add itself is no ambient authority, and a bad one does not fall through to a good cookie.
    assert_eq!(post(&[("authorization", &bearer), ("origin", "https://evil.example")]).await?, 202);
    assert_eq!(post(&[cookie, ("authorization", "Bearer bad")]).await?, 401);
    Ok(())
}
