// Modules of which nothing is built: the OpenAPI of the oldest Kubernetes that the chart is for, and the definitions of the
// custom resources of others that chart and documentation have (tests/chart/schemas.rs).
module toolbox/schemas

go 1.26.8

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	k8s.io/kubernetes v1.33.13
	sigs.k8s.io/gateway-api v1.4.0
)
