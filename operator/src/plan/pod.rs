//! The pods: the restricted security profile throughout, and the user's closed list of settings.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    SeccompProfile, SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sse_crds::pod::Pod;
use sse_crds::{ENDPOINT_GRACE_SECONDS, SseGatewaySpec};

use super::{
    ADMIN_PORT, CONFIG_HASH, HTTP_PORT, Owner, Settings, config_map, config_map_name, secrets, selector,
    service_account,
};

const CONFIG_DIR: &str = "/etc/sse-gateway";
/// The user and group of the gateway's image.
const UID: i64 = 65532;
/// Seconds for the last writes and exports after the drain window.
const EXIT_SECONDS: i64 = 10;

pub fn template(
    owner: &Owner,
    spec: &SseGatewaySpec,
    config_hash: &str,
    settings: &Settings,
) -> PodTemplateSpec {
    let pod = &spec.pod;
    let mut annotations = pod.annotations.clone();
    annotations.insert(CONFIG_HASH.into(), config_hash.into());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(owner.labels(&pod.labels)),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(owner, spec, config_hash, settings)),
    }
}

fn pod_spec(owner: &Owner, spec: &SseGatewaySpec, config_hash: &str, settings: &Settings) -> PodSpec {
    let pod = &spec.pod;
    let (mut volumes, mut mounts) = (vec![config_volume(owner, config_hash)], vec![config_mount()]);
    for (volume, mount) in secrets::volumes(spec) {
        volumes.push(volume);
        mounts.push(mount);
    }
    PodSpec {
        service_account_name: Some(service_account::name(&owner.name)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(
            i64::from(ENDPOINT_GRACE_SECONDS) + i64::from(spec.drain.window_seconds) + EXIT_SECONDS,
        ),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(UID),
            run_as_group: Some(UID),
            fs_group: Some(UID),
            seccomp_profile: Some(runtime_default()),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(owner, pod, mounts, settings)],
        volumes: Some(volumes),
        image_pull_secrets: non_empty(&pod.image_pull_secrets),
        node_selector: (!pod.node_selector.is_empty()).then(|| pod.node_selector.clone()),
        tolerations: non_empty(&pod.tolerations),
        affinity: pod.affinity.clone(),
        topology_spread_constraints: Some(spread(owner, pod)),
        priority_class_name: pod.priority_class_name.clone(),
        ..PodSpec::default()
    }
}

fn container(owner: &Owner, pod: &Pod, mounts: Vec<VolumeMount>, settings: &Settings) -> Container {
    let policy = pod.image_pull_policy.unwrap_or(settings.image_pull_policy);
    Container {
        name: "gateway".into(),
        image: Some(pod.image.clone().unwrap_or_else(|| settings.image.clone())),
        image_pull_policy: Some(policy.as_str().into()),
        args: Some(vec![
            "--config".into(),
            format!("{CONFIG_DIR}/{}", config_map::KEY),
            "--secrets-dir".into(),
            secrets::DIR.into(),
            "--name".into(),
            format!("{}/{}", owner.namespace, owner.name),
        ]),
        env: Some(environment(&pod.env)),
        ports: Some(vec![port("http", HTTP_PORT), port("admin", ADMIN_PORT)]),
        // Slow to give up on a start, quick to take a pod out of the Service when it drains.
        startup_probe: Some(probe("/livez", 1, 60)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        resources: Some(pod.resources.clone().unwrap_or_else(default_resources)),
        volume_mounts: Some(mounts),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            privileged: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            seccomp_profile: Some(runtime_default()),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }
}

/// The pod's own name and namespace, which nobody may override: the gateway uses them as its
/// identity in NATS. Then the user's variables.
fn environment(user: &[EnvVar]) -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: None, field_path: path.into() }),
            ..EnvVarSource::default()
        }),
    };
    let own = [field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace")];
    let others = user.iter().filter(|var| own.iter().all(|o| o.name != var.name)).cloned();
    own.iter().cloned().chain(others).collect()
}

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(ADMIN_PORT),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

fn default_resources() -> ResourceRequirements {
    let requests = [("cpu", "100m"), ("memory", "64Mi")];
    ResourceRequirements {
        requests: Some(
            requests
                .into_iter()
                .map(|(name, amount)| (name.into(), Quantity(amount.into())))
                .collect::<BTreeMap<_, _>>(),
        ),
        ..ResourceRequirements::default()
    }
}

fn config_volume(owner: &Owner, config_hash: &str) -> Volume {
    Volume {
        name: "config".into(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map_name(&owner.name, config_hash),
            default_mode: Some(0o444),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// The kubelet makes the mount points of the secrets inside this volume.
fn config_mount() -> VolumeMount {
    VolumeMount {
        name: "config".into(),
        mount_path: CONFIG_DIR.into(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// The user's constraints, or a spread over hosts and zones that never keeps a pod from starting.
fn spread(owner: &Owner, pod: &Pod) -> Vec<TopologySpreadConstraint> {
    if !pod.topology_spread_constraints.is_empty() {
        return pod.topology_spread_constraints.clone();
    }
    ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        .map(|key| TopologySpreadConstraint {
            max_skew: 1,
            topology_key: key.into(),
            when_unsatisfiable: "ScheduleAnyway".into(),
            label_selector: Some(LabelSelector {
                match_labels: Some(selector(&owner.name)),
                ..LabelSelector::default()
            }),
            // Each revision by itself, or the old pods of a rollout push the new ones aside.
            match_label_keys: Some(vec!["pod-template-hash".into()]),
            ..TopologySpreadConstraint::default()
        })
        .into()
}

fn non_empty<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

#[cfg(test)]
mod tests;
