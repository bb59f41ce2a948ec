{{/* What an account may do in a namespace, or, with an empty namespace, in the cluster. Arguments: root, part, name, rules,
     namespace. */}}
{{- define "slipway.role" }}
{{- $name := printf "%s-%s" .root.Release.Name (trimPrefix "slipway-" .name) }}
{{- $kind := ternary "Role" "ClusterRole" (ne .namespace "") }}
{{- if eq $kind "ClusterRole" }}{{ $name = printf "%s-%s" .root.Release.Namespace $name }}{{ end }}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ $name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
rules:
  {{- toYaml .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ $name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ $kind }}, name: {{ $name }}}
subjects:
  - {kind: ServiceAccount, name: {{ include "slipway.name" . }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}

{{/* A CustomResourceDefinition, which Helm upgrades, and keeps when the release is uninstalled: its end would be that of
     all objects. Arguments: root, file, part. */}}
{{- define "slipway.crd" }}
{{- $crd := .root.Files.Get .file | fromYaml }}
{{- $labels := include "slipway.labels" . | fromYaml }}
{{- $metadata := dict "annotations" (dict "helm.sh/resource-policy" "keep") "labels" $labels }}
{{- $_ := set $crd "metadata" (mergeOverwrite $crd.metadata $metadata) }}
{{- toYaml $crd }}
{{- end }}
