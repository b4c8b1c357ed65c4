//! The console: what is answered at `/` and to whom, and the page in a real Chromium.

mod page;
mod person;

use anyhow::Result;
use hyper::Method;
use hyper::header::HeaderMap;
use serde_json::{Value, json};
use sse_tests::client::{Answer, Client};
use sse_tests::eventually;
use sse_tests::jwt::jwt_with;
use sse_tests::process::{Gateway, Nats, merge};

const JSON: (&str, &str) = ("accept", "application/json");

/// A gateway with a console, whose clients may publish.
async fn gateway(nats: &Nats, more: Value) -> Result<Gateway> {
    let mut spec = json!({"console": {"enabled": true}, "publish": {"enabled": true}});
    merge(&mut spec, more);
    Gateway::start(nats, spec).await
}

fn url(gateway: &Gateway) -> String {
    format!("http://{}/", gateway.address)
}

/// One who may publish to everybody in the tenant, and subscribe to the topics of orders.
fn operator() -> String {
    jwt_with("acme", "operator@acme.example", json!({"topics": ["orders.>"], "publish": [">"]}))
}

async fn ask(client: &Client, headers: &[(&str, &str)]) -> Result<Answer> {
    client.request(Method::GET, "/", headers).await
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().expect("text"))
}

#[tokio::test]
async fn without_the_setting_there_is_nothing_at_the_root() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = Gateway::start(&nats, json!({})).await?;
    let client = gateway.client("acme", "operator");
    let bearer = format!("Bearer {}", client.jwt);
    for headers in [&[][..], &[JSON], &[JSON, ("authorization", &bearer)]] {
        let answer = ask(&client, headers).await?;
        assert_eq!(
            (answer.status.as_u16(), header(&answer.headers, "content-type")),
            (404, "application/problem+json")
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_page_is_one_document_under_a_strict_policy_and_there_is_nothing_beside_it() -> Result<()> {
    let nats = Nats::start().await?;
    let gateway = gateway(&nats, json!({})).await?;
    let client = gateway.client("acme", "operator");
    let page = ask(&client, &[("accept", "text/html,*/*;q=0.8")]).await?;
    assert_eq!(
        (page.status.as_u16(), header(&page.headers, "content-type")),
        (200, "text/html; charset=utf-8")
    );
    for (name, value) in [
        ("cache-control", "no-cache"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("vary", "accept"),
    ] {
        assert_eq!(header(&page.headers, name), value, "{name}");
    }
    let policy = header(&page.headers, "content-security-policy");
    for part in [
        "default-src 'none'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.split("; ").any(|one| one == part), "{part} is not in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    // The document is the same for all, and knows nothing.
    assert!(!page.body.contains("tests/gateway") && !page.body.contains("/api/v1/sse"));
    let tag = header(&page.headers, "etag");
    let again = ask(&client, &[("if-none-match", tag)]).await?;
    assert_eq!((again.status.as_u16(), again.body.as_str(), header(&again.headers, "etag")), (304, "", tag));
    assert_eq!(header(&again.headers, "content-security-policy"), policy);
    let head = client.request(Method::HEAD, "/", &[]).await?;
    assert_eq!((head.status.as_u16(), head.body.as_str(), header(&head.headers, "etag")), (200, "", tag));
    let post = client.request(Method::POST, "/", &[]).await?;
    assert_eq!((post.status.as_u16(), header(&post.headers, "allow")), (405, "GET"));
    for path in ["/index.html", "/console", "/app.js", "/favicon.ico", "//"] {
        assert_eq!(client.request(Method::GET, path, &[]).await?.status, 404, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn who_asks_for_json_needs_a_good_credential_and_learns_of_totals_alone() -> Result<()> {
    let nats = Nats::start().await?;
    let one = gateway(&nats, json!({})).await?;
    let two = gateway(&nats, json!({})).await?;
    let _streams = [
        two.client("acme", "hidden-user").open("").await?,
        two.client("other", "hidden-user").open("").await?,
    ];
    let mut client = one.client("acme", "operator");
    for headers in [&[JSON][..], &[JSON, ("authorization", "Bearer x.y.z")]] {
        let answer = ask(&client, headers).await?;
        assert_eq!(
            (answer.status.as_u16(), header(&answer.headers, "content-type")),
            (401, "application/problem+json")
        );
        assert_eq!(header(&answer.headers, "x-content-type-options"), "nosniff");
    }
    client.jwt = operator();
    let bearer = format!("Bearer {}", client.jwt);
    let told = eventually("both pods", std::time::Duration::from_mins(1), || async {
        let answer = ask(&client, &[JSON, ("authorization", &bearer)]).await?;
        assert_eq!((answer.status.as_u16(), header(&answer.headers, "cache-control")), (200, "no-store"));
        let told: Value = serde_json::from_str(&answer.body)?;
        let mut streams: Vec<_> =
            told["pods"].as_array().into_iter().flatten().map(|pod| pod["streams"].clone()).collect();
        streams.sort_by_key(Value::as_u64);
        anyhow::ensure!(streams == [0, 2], "{told}");
        Ok(told)
    });
    let told = told.await?;
    assert!(!told.to_string().contains("hidden-user"), "{told}");
    assert!(
        told["pods"].as_array().is_some_and(|pods| pods.iter().any(|pod| pod["name"] == told["pod"])),
        "{told}"
    );
    let identity = &told["identity"];
    assert_eq!((&identity["tenant"], &identity["user"]), (&json!("acme"), &json!("operator@acme.example")));
    assert_eq!((&identity["topics"], &identity["publish"]), (&json!(["orders.>"]), &json!([">"])));
    assert_eq!(
        (&told["basePath"], &told["subjects"], &told["publish"]),
        (&json!("/api/v1/sse"), &json!("sse.acme"), &json!(true))
    );
    Ok(())
}
