//! The `ConfigMap` with the configuration file. Immutable: a changed configuration is another
//! object, so pods of an old revision never read a new file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::config::Config;
use super::{Owner, config_map_name, to_map};

/// Key, and file name in the pods.
pub const KEY: &str = "gateway.yaml";

pub fn plan(owner: &Owner, config: &Config) -> ConfigMap {
    ConfigMap {
        metadata: owner.child(config_map_name(&owner.name, &config.hash), &BTreeMap::new()),
        data: Some(to_map([(KEY, &config.yaml)])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::children;
    use super::super::fixtures::{gateway, settings};

    #[test]
    fn it_is_immutable_and_named_after_its_content() {
        let children = children(&gateway(json!({})), &settings()).expect("a plan");
        let map = children.config_map;
        assert_eq!(map.immutable, Some(true));
        assert_eq!(map.metadata.name, Some(format!("live-{}", children.config_hash)));
        assert_eq!(children.config_hash.len(), 10);
        assert!(map.data.expect("data")["gateway.yaml"].contains("nats://nats:4222"));
    }
}
