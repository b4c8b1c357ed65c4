//! Hears the control operations of back ends, and has the hub do them.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::Link;
use crate::control::{self, ControlError, Operation};
use crate::hub::Hub;
use crate::seldom::Seldom;

/// Wait before a subscription that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Does what comes, for ever.
pub async fn run(link: &Link, prefix: &str, hub: &Hub) {
    let (prefix, refusals) = (format!("{prefix}-ctl"), Seldom::default());
    loop {
        let (client, replaced) = link.present();
        match client.subscribe(format!("{prefix}.>")).await {
            Ok(mut messages) => {
                let hear = async {
                    while let Some(message) = messages.next().await {
                        obey(&prefix, hub, &message, &refusals);
                    }
                };
                tokio::select! {
                    () = hear => {}
                    () = replaced => continue,
                }
            }
            Err(error) => warn!(%error, "Control operations can not be heard; trying again."),
        }
        sleep(AGAIN).await;
    }
}

fn obey(prefix: &str, hub: &Hub, message: &async_nats::Message, refusals: &Seldom) {
    match handle(prefix, hub, message) {
        Ok((operation, connections)) => {
            debug!(operation = operation.name(), connections, "Did what a back end asked for.");
        }
        Err(error) => {
            if let Some(others) = refusals.turn() {
                warn!(%error, others, "Refused a control operation.");
            }
        }
    }
}

fn handle(
    prefix: &str,
    hub: &Hub,
    message: &async_nats::Message,
) -> Result<(Operation, usize), ControlError> {
    let target = control::target(prefix, &message.subject)?;
    let operation = Operation::parse(&message.payload)?;
    let connections = hub.control(&target, &operation);
    Ok((operation, connections))
}
