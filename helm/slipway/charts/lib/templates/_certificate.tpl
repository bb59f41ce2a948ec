{{/* A certificate of cert-manager for a Service. Arguments: root, part, secret, and optionally name (of the Service). */}}
{{- define "slipway.certificate" -}}
{{- $name := .name | default (include "slipway.name" .) -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ .secret }}
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
spec:
  secretName: {{ .secret }}
  issuerRef:
    {{- toYaml .root.Values.global.certManager.issuerRef | nindent 4 }}
  privateKey: {algorithm: ECDSA, rotationPolicy: Always}
  dnsNames:
    - {{ $name }}
    - {{ $name }}.{{ .root.Release.Namespace }}
    - {{ $name }}.{{ .root.Release.Namespace }}.svc
    - {{ $name }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.global.clusterDomain }}
{{- end -}}
