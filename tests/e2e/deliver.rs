//! What a service and a browser see: one event, all the way, on every pod.

use anyhow::{Result, ensure};
use serde_json::json;
use sse_tests::client::redeem_at_once;
use sse_tests::cluster::{Namespace, SYSTEM, in_namespace, kubectl, prefix};
use sse_tests::outside::outside;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_published_in_a_pod_or_outside_reaches_the_user_on_both_pods() -> Result<()> {
    in_namespace("deliver", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        let pods = namespace.ready_pods("live").await?;
        let mut one = namespace.client_of(&pods[0], "acme", "alice").open("").await?;
        let mut two = namespace.client_of(&pods[1], "acme", "alice").open("").await?;
        let subject = format!("{}.acme.user.alice", prefix(&namespace.name));
        // By NATS' own tool, in the pod of the server: nothing of ours.
        let publish = ["-n", SYSTEM, "exec", "sse-gateway-nats-0", "--", "/nats-pub", &subject, "from a pod"];
        kubectl(&publish).await?;
        outside().await?.publisher.publish(&subject, "from outside").await?;
        for stream in [&mut one, &mut two] {
            ensure!(stream.until("from outside").await? == ["from a pod", "from outside"]);
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_redemptions_of_a_token_across_both_pods_one_wins() -> Result<()> {
    in_namespace("token", async |namespace: &Namespace| {
        namespace.gateway("live", json!({})).await?;
        let pods = namespace.ready_pods("live").await?;
        let token = namespace.client_of(&pods[0], "acme", "alice").token().await?;
        let racers = (0..50).map(|i| namespace.client_of(&pods[i % 2], "acme", "alice")).collect();
        let answers = redeem_at_once(racers, &token).await?;
        let mut expected = vec![401; 50];
        expected[0] = 204;
        ensure!(answers == expected, "{answers:?}");
        // And the winner of a plain redemption is answered with a stream.
        namespace.client_of(&pods[1], "acme", "alice").open("").await.map(drop)
    })
    .await
}
