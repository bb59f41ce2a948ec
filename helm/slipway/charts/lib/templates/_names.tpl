{{/* Name of an object of the release: RELEASE-PART. Arguments: root, part. */}}
{{- define "slipway.name" -}}
{{- printf "%s-%s" .root.Release.Name .part | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels by which Services and policies find pods. Arguments: root, part. */}}
{{- define "slipway.selector" -}}
app.kubernetes.io/name: slipway
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{/* Labels of an object. Arguments: root, part. */}}
{{- define "slipway.labels" -}}
{{ include "slipway.selector" . }}
app.kubernetes.io/part-of: slipway
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* An image. Arguments: root, image (repository, tag, digest), own (not from global.image.registry). */}}
{{- define "slipway.image" -}}
{{- $global := .root.Values.global.image -}}
{{- $name := .image.repository -}}
{{- if not .own }}{{ $name = printf "%s/%s" (trimSuffix "/" $global.registry) $name }}{{ end -}}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ .image.tag | default (ternary "" $global.tag (.own | default false)) | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* URL of a service of the release. Arguments: root, part, port. */}}
{{- define "slipway.url" -}}
http://{{ include "slipway.host" . }}:{{ .port }}
{{- end -}}

{{/* Host name of a service of the release. Arguments: root, part. */}}
{{- define "slipway.host" -}}
{{ include "slipway.name" . }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.global.clusterDomain }}
{{- end -}}

{{/* Host names that requests may use for a service, separated by commas. Arguments: root, part, hosts. */}}
{{- define "slipway.hosts" -}}
{{- $name := include "slipway.name" . -}}
{{- $namespace := .root.Release.Namespace -}}
{{- $own := list $name (printf "%s.%s" $name $namespace) (printf "%s.%s.svc" $name $namespace) (include "slipway.host" .) -}}
{{- concat $own .root.Values.global.allowedHosts (.hosts | default list) | uniq | join "," -}}
{{- end -}}

{{/* Whether a backend for evaluation runs: "true" or nothing. Arguments: root, backend. */}}
{{- define "slipway.evaluates" -}}
{{- $evaluation := .root.Values.global.evaluation -}}
{{- $own := get $evaluation .backend -}}
{{- if kindIs "bool" $own }}{{ if $own }}true{{ end }}{{ else if $evaluation.enabled }}true{{ end -}}
{{- end -}}

{{/* Namespaces of training jobs and ModelDeployments, as a JSON list: those of the teams, or RELEASE_NAMESPACE-workloads
     if there are no teams; with the scope `namespace`, that of the release. Argument: root. */}}
{{- define "slipway.namespaces" -}}
{{- $names := list -}}
{{- range .root.Values.global.teams }}{{ $names = append $names .namespace }}{{ end -}}
{{- if not $names -}}
{{- if eq .root.Values.global.scope "namespace" -}}
{{- $names = list .root.Release.Namespace -}}
{{- else -}}
{{- $names = list (printf "%s-workloads" .root.Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- $names | toJson -}}
{{- end -}}

{{/* Name of the Secret of a backend. Arguments: root, backend (postgres, nats, s3). */}}
{{- define "slipway.backend-secret" -}}
{{- if include "slipway.evaluates" . -}}
{{ include "slipway.name" (dict "root" .root "part" .backend) }}
{{- else -}}
{{ (get .root.Values.global .backend).existingSecret }}
{{- end -}}
{{- end -}}

{{/* Name of the Secret with the tokens. Argument: root. */}}
{{- define "slipway.tokens-secret" -}}
{{ .root.Values.global.access.existingSecret | default (include "slipway.name" (dict "root" .root "part" "tokens")) }}
{{- end -}}
