//! An API server for tests: holds the objects that it was given, answers a patch or a creation with
//! what was sent, and remembers every request.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// A request that was made.
#[derive(Clone, Debug)]
pub struct Sent {
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Value,
}

#[derive(Clone, Debug, Default)]
pub struct Stub {
    objects: BTreeMap<String, Value>,
    refused: BTreeMap<String, (u16, Value)>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Stub {
    /// Has this object, or list, at this path.
    pub fn with(mut self, path: &str, object: Value) -> Self {
        self.objects.insert(path.into(), object);
        self
    }

    /// Refuses to patch what is at this path.
    pub fn refusing(self, path: &str, message: &str) -> Self {
        self.refusing_with(path, 422, failure(422, "Invalid", message))
    }

    /// The same with a status of its own.
    pub fn refusing_with(mut self, path: &str, code: u16, status: Value) -> Self {
        self.refused.insert(path.into(), (code, status));
        self
    }

    pub fn client(&self) -> Client {
        let stub = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let stub = stub.clone();
            async move { Ok::<_, Infallible>(stub.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// The requests of this method, in order.
    pub fn sent(&self, method: &str) -> Vec<Sent> {
        self.sent_all().into_iter().filter(|request| request.method == method).collect()
    }

    /// All requests, in order.
    pub fn sent_all(&self) -> Vec<Sent> {
        self.sent.lock().expect("no panic").clone()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.expect("a body");
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = head.uri.path().to_owned();
        let (status, answer) = match (head.method.as_str(), self.refused.get(&path)) {
            ("PATCH", Some(refusal)) => refusal.clone(),
            ("PATCH" | "POST", _) => (200, body.clone()),
            _ => self
                .objects
                .get(&path)
                .map_or_else(|| (404, failure(404, "NotFound", "not found")), |object| (200, object.clone())),
        };
        self.sent.lock().expect("no panic").push(Sent {
            method: head.method.to_string(),
            path,
            query: head.uri.query().unwrap_or_default().into(),
            body,
        });
        let mut answer = serde_json::to_vec(&answer).expect("JSON");
        if status == 404 && is_group(head.uri.path()) {
            // What a real one says of an API that it does not have.
            answer = b"404 page not found\n".to_vec();
        }
        Response::builder().status(status).body(Body::from(answer)).expect("a response")
    }
}

fn is_group(path: &str) -> bool {
    path.starts_with("/apis/") && path.split('/').count() == 4
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message})
}
