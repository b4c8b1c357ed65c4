//! HTTP for the library, with our TLS.

use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};

use super::{ExportError, Made};
use crate::https;

#[derive(Debug)]
pub(super) struct Client(reqwest::Client);

impl Client {
    pub fn new(made: &Made) -> Result<Self, ExportError> {
        Ok(Self(https::client(made.ca.as_deref())?))
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let answer = self.0.execute(request).await.map_err(reqwest::Error::without_url)?;
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            *headers = answer.headers().clone();
        }
        Ok(response.body(https::body(answer).await?.into())?)
    }
}
