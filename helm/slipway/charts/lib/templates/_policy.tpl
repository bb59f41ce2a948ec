{{/* The policy of a service: who may connect to it, and where it may connect to. Everything else is refused by the
     policy that denies all. Arguments: root, part, ports, account. */}}
{{- define "slipway.policy" }}
{{- $policy := .root.Values.global.networkPolicy }}
{{- if $policy.enabled }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "slipway.name" . }}
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "slipway.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports:
        {{- range .ports }}
        - {port: {{ .port }}, protocol: TCP}
        {{- end }}
      from:
        {{- include "slipway.peers" . | nindent 8 }}
  egress:
    {{- include "slipway.egress" . | nindent 4 }}
{{- end }}
{{- end }}

{{/* The clients of the platform: its own pods, those of the namespaces of jobs and ModelDeployments, and those that
     global.networkPolicy.from lists. Arguments: root. */}}
{{- define "slipway.peers" -}}
{{ include "slipway.own-peers" . }}
- namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values: {{ include "slipway.namespaces" . }}
{{- with .root.Values.global.networkPolicy.from }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "slipway.own-peers" -}}
- podSelector:
    matchLabels: {app.kubernetes.io/name: slipway, app.kubernetes.io/instance: {{ .root.Release.Name }}}
{{- end -}}

{{- define "slipway.egress" -}}
{{- $policy := .root.Values.global.networkPolicy -}}
# Names.
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
# Services and backends of this release.
- to:
    - podSelector:
        matchLabels: {app.kubernetes.io/name: slipway, app.kubernetes.io/instance: {{ .root.Release.Name }}}
{{- if .account }}
# The API server.
- ports:
    {{- range $policy.apiServerPorts }}
    - {port: {{ . | int }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- range $policy.egress }}
- to:
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  ports:
    {{- range .ports }}
    - {port: {{ . | int }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end -}}
