{{/* A variable with a key of a Secret. Arguments: name, secret, key. */}}
{{- define "slipway.env-secret" }}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key | quote }}}}
{{- end }}

{{/* What all services have in common. Arguments: root, part, hosts. */}}
{{- define "slipway.env-common" }}
{{- $global := .root.Values.global }}
- name: SLIPWAY_ALLOWED_HOSTS
  value: {{ include "slipway.hosts" . | quote }}
{{- with $global.allowedOrigins }}
- name: SLIPWAY_ALLOWED_ORIGINS
  value: {{ join "," . | quote }}
{{- end }}
- name: SLIPWAY_DRAIN_SECONDS
  value: {{ $global.drainSeconds | quote }}
- name: SLIPWAY_LOG
  value: {{ $global.log.level | quote }}
- name: SLIPWAY_LOG_FORMAT
  value: {{ $global.log.format | quote }}
- name: SLIPWAY_AUTH
  value: {{ ternary "on" "off" $global.access.enabled | quote }}
{{- with $global.access.trustedProxies }}
- name: SLIPWAY_TRUSTED_PROXIES
  value: {{ join "," . | quote }}
{{- end }}
{{- if and $global.access.enabled (ne .part "registry") }}
- name: SLIPWAY_ACCESS_MAX_AGE_S
  value: {{ $global.access.maxAgeSeconds | int | quote }}
- name: SLIPWAY_SERVICE_TOKEN_FILE
  value: /var/run/slipway/token/token
{{- end }}
{{- with $global.tracing.endpoint }}
- name: SLIPWAY_OTLP_ENDPOINT
  value: {{ . | quote }}
- name: SLIPWAY_TRACE_RATE
  value: {{ $global.tracing.rate | quote }}
{{- end }}
{{- if or $global.authorities.configMap $global.authorities.secret }}
- name: SSL_CERT_FILE
  value: /etc/slipway/authorities/{{ $global.authorities.key }}
{{- end }}
{{- end }}

{{/* Postgres. Arguments: root, key (of global.postgres.keys). */}}
{{- define "slipway.env-postgres" }}
{{- $global := .root.Values.global }}
{{- $secret := include "slipway.backend-secret" (dict "root" .root "backend" "postgres") }}
{{- $key := ternary "url" (get $global.postgres.keys .key) (eq (include "slipway.evaluates" (dict "root" .root "backend" "postgres")) "true") }}
{{- include "slipway.env-secret" (dict "name" "SLIPWAY_POSTGRES_URL" "secret" $secret "key" $key) }}
- name: SLIPWAY_POSTGRES_MAX_CONNECTIONS
  value: {{ $global.postgres.maxConnections | int | quote }}
{{- end }}

{{/* NATS. Arguments: root, key (of global.nats.keys). */}}
{{- define "slipway.env-nats" }}
{{- $global := .root.Values.global }}
{{- $secret := include "slipway.backend-secret" (dict "root" .root "backend" "nats") }}
{{- $key := ternary "url" (get $global.nats.keys .key) (eq (include "slipway.evaluates" (dict "root" .root "backend" "nats")) "true") }}
{{- include "slipway.env-secret" (dict "name" "SLIPWAY_NATS_URL" "secret" $secret "key" $key) }}
- name: SLIPWAY_NATS_REPLICAS
  value: {{ $global.nats.replicas | int | quote }}
{{- end }}

{{/* Address of the S3 server. Argument: root. */}}
{{- define "slipway.s3-endpoint" -}}
{{- if include "slipway.evaluates" (dict "root" .root "backend" "s3") -}}
{{ include "slipway.url" (dict "root" .root "part" "s3" "port" 8333) }}
{{- else -}}
{{ .root.Values.global.s3.endpoint }}
{{- end -}}
{{- end -}}

{{/* S3. Argument: root. */}}
{{- define "slipway.env-s3" }}
{{- $s3 := .root.Values.global.s3 }}
{{- $secret := include "slipway.backend-secret" (dict "root" .root "backend" "s3") }}
{{- $keys := ternary (dict "accessKey" "access-key" "secretKey" "secret-key") $s3.keys (eq (include "slipway.evaluates" (dict "root" .root "backend" "s3")) "true") }}
- name: SLIPWAY_S3_ENDPOINT
  value: {{ include "slipway.s3-endpoint" . | quote }}
- name: SLIPWAY_S3_REGION
  value: {{ $s3.region | quote }}
- name: SLIPWAY_S3_BUCKET
  value: {{ $s3.bucket | quote }}
{{- include "slipway.env-secret" (dict "name" "SLIPWAY_S3_ACCESS_KEY" "secret" $secret "key" $keys.accessKey) }}
{{- include "slipway.env-secret" (dict "name" "SLIPWAY_S3_SECRET_KEY" "secret" $secret "key" $keys.secretKey) }}
{{- end }}

{{/* The addresses of other services. Arguments: root, services (list of registry, launcher, rollout-controller, drift-monitor). */}}
{{- define "slipway.env-services" }}
{{- $ports := dict "registry" 5000 "launcher" 5010 "rollout-controller" 5020 "drift-monitor" 5030 }}
{{- range .services }}
- name: SLIPWAY_{{ . | upper | replace "-" "_" }}_URL
  value: {{ include "slipway.url" (dict "root" $.root "part" . "port" (get $ports .)) | quote }}
{{- end }}
{{- end }}
