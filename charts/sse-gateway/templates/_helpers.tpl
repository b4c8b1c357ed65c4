{{- define "sse-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Cut to leave room for suffixes within the 63 characters of a label. */}}
{{- define "sse-gateway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "sse-gateway.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sse-gateway.natsName" -}}
{{ include "sse-gateway.fullname" . }}-nats
{{- end }}

{{- define "sse-gateway.natsUrl" -}}
nats://{{ include "sse-gateway.natsName" . }}.{{ .Release.Namespace }}.svc:4222
{{- end }}

{{/* Where a gateway for trying out is seen by the operator. */}}
{{- define "sse-gateway.trialNamespace" -}}
{{ first (append .Values.watchNamespaces .Release.Namespace) }}
{{- end }}

{{/* Name of what is outside the release's namespace, where releases of the same name may meet. */}}
{{- define "sse-gateway.globalName" -}}
{{ include "sse-gateway.fullname" . }}.{{ .Release.Namespace }}
{{- end }}

{{- define "sse-gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "sse-gateway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Arguments: context, component. */}}
{{- define "sse-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sse-gateway.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/*
The metadata of an object: context, component, name, and where it has them namespace, labels, annotations.
Labels of the chart win over those of the user, because selectors and Helm rely on them.
*/}}
{{- define "sse-gateway.metadata" -}}
{{- $ := .context }}
{{- $chart := printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- $own := dict "helm.sh/chart" $chart "app.kubernetes.io/managed-by" $.Release.Service }}
{{- if eq .component "operator" }}
{{- $_ := set $own "app.kubernetes.io/version" $.Chart.AppVersion }}
{{- end }}
{{- $own = merge $own (include "sse-gateway.selectorLabels" (list $ .component) | fromYaml) }}
{{- $partOf := dict "app.kubernetes.io/part-of" "sse-gateway" }}
{{- $metadata := dict "name" .name "labels" (merge $own (default dict .labels) $.Values.commonLabels $partOf) }}
{{- with .namespace }}
{{- $_ := set $metadata "namespace" . }}
{{- end }}
{{- with merge dict (default dict .annotations) $.Values.commonAnnotations }}
{{- $_ := set $metadata "annotations" . }}
{{- end }}
{{- toYaml $metadata }}
{{- end }}

{{/*
The metadata of a pod: context, component, labels, annotations. Without the versions of chart and operator: a new
one by itself is no reason to make the pod anew.
*/}}
{{- define "sse-gateway.podMetadata" -}}
{{- $selected := include "sse-gateway.selectorLabels" (list .context .component) | fromYaml }}
{{- $metadata := dict "labels" (merge $selected .labels .context.Values.commonLabels) }}
{{- with merge dict .annotations .context.Values.commonAnnotations }}
{{- $_ := set $metadata "annotations" . }}
{{- end }}
{{- toYaml $metadata }}
{{- end }}

{{/* Arguments: context, values of the image. */}}
{{- define "sse-gateway.image" -}}
{{- $image := index . 1 }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository (default (index . 0).Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{- define "sse-gateway.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "sse-gateway.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where pods run: the argument is the values that say so. */}}
{{- define "sse-gateway.scheduling" -}}
{{- $set := dict }}
{{- range list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- if get $ . }}
{{- $_ := set $set . (get $ .) }}
{{- end }}
{{- end }}
{{- with $set }}
{{- toYaml . }}
{{- end }}
{{- end }}
