//! Secrets as files of the pods: `<secrets dir>/<secret>/<key>`, only the keys that the spec names.
//!
//! The volumes are optional, so that the operator needs no right on Secrets: a pod whose Secret is
//! missing starts, says so in `/status`, stays unready, and heals when the kubelet brings the file.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{KeyToPath, SecretVolumeSource, Volume, VolumeMount};
use sse_crds::SseGatewaySpec;

use super::config::hash10;

/// Where the gateway looks for secrets.
pub const DIR: &str = "/etc/sse-gateway/secrets";

/// One volume for each Secret, and where it is mounted.
pub fn volumes(spec: &SseGatewaySpec) -> Vec<(Volume, VolumeMount)> {
    let mut keys = BTreeMap::<String, BTreeSet<String>>::new();
    for (_, secret) in spec.secret_refs() {
        keys.entry(secret.name).or_default().insert(secret.key);
    }
    keys.into_iter().map(|(secret, keys)| volume(&secret, keys)).collect()
}

fn volume(secret: &str, keys: BTreeSet<String>) -> (Volume, VolumeMount) {
    // A Secret's name may have dots and 253 characters, a volume's may not.
    let name = format!("secret-{}", hash10(secret.as_bytes()));
    let source = SecretVolumeSource {
        secret_name: Some(secret.into()),
        optional: Some(true),
        default_mode: Some(0o440),
        items: Some(keys.into_iter().map(|key| KeyToPath { path: key.clone(), key, mode: None }).collect()),
    };
    let mount = VolumeMount {
        name: name.clone(),
        mount_path: format!("{DIR}/{secret}"),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    (Volume { name, secret: Some(source), ..Volume::default() }, mount)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::gateway;
    use super::*;

    #[test]
    fn each_secret_is_one_optional_volume_with_the_named_keys_only() {
        let spec = gateway(json!({
            "nats": {"credentialsSecretRef": {"name": "jwt-key", "key": "nats.creds"}},
            "tls": {"secretName": "tls.example.com"},
        }))
        .spec;
        let volumes = volumes(&spec);
        assert_eq!(volumes.len(), 2);
        for (volume, mount) in &volumes {
            let source = volume.secret.as_ref().expect("a secret");
            assert_eq!((source.optional, source.default_mode), (Some(true), Some(0o440)));
            assert_eq!((mount.read_only, &mount.name), (Some(true), &volume.name));
        }
        let keys = |i: usize| -> Vec<String> {
            let source = volumes[i].0.secret.as_ref().expect("a secret");
            source.items.iter().flatten().map(|item| item.path.clone()).collect()
        };
        assert_eq!(volumes[0].1.mount_path, "/etc/sse-gateway/secrets/jwt-key");
        assert_eq!(keys(0), ["key", "nats.creds"]);
        assert_eq!(volumes[1].1.mount_path, "/etc/sse-gateway/secrets/tls.example.com");
        assert_eq!(keys(1), ["tls.crt", "tls.key"]);
    }

    #[test]
    fn volume_names_are_labels_whatever_the_secret_is_called() {
        let long = format!("a.{}", "b".repeat(251));
        let spec = gateway(json!({"tls": {"secretName": long}})).spec;
        let names: BTreeSet<_> = volumes(&spec).into_iter().map(|(volume, _)| volume.name).collect();
        assert_eq!(names.len(), 2);
        for name in names {
            assert!(name.len() <= 63, "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{name}"
            );
        }
    }
}
