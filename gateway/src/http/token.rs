//! `POST {base}/token`: a JWT in, a single-use token out.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::json;

use super::problem::Problem;
use super::{Gateway, fresh};

pub async fn mint(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Result<Response, Problem> {
    let minted = token(&gateway, &headers).await;
    gateway.count_token(&minted, "minted");
    Ok(fresh(&json!({ "token": minted? })))
}

async fn token(gateway: &Gateway, headers: &HeaderMap) -> Result<String, Problem> {
    let identity = gateway.bearer(headers).await?;
    gateway.check_open()?;
    let (tokens, _turn) = gateway.tokens().await?;
    let ttl = Duration::from_secs(gateway.config.spec.token.ttl_seconds.into());
    Ok(tokens.mint(&identity, ttl).await?)
}
