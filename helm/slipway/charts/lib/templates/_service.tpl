{{/* A service of Slipway: ServiceAccount, Deployment, Service, PodDisruptionBudget, NetworkPolicies and Ingress.
     Arguments: root, part, values, ports (list of name, port), probe (name of the port that answers /healthz), env, and
     optionally volumes, mounts, token (key of the Secret with tokens), account (whether pods call the API server),
     annotations (of pods), scheme. */}}
{{- define "slipway.service" -}}
{{- include "slipway.account" . }}
---
{{- include "slipway.deployment" . }}
---
{{- include "slipway.cluster-service" . }}
---
{{- include "slipway.budget" . }}
---
{{- include "slipway.policy" . }}
{{- include "slipway.ingress" . }}
{{- end -}}

{{- define "slipway.account" }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "slipway.name" . }}
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
  {{- with .values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}

{{- define "slipway.deployment" }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "slipway.name" . }}
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
spec:
  {{- if not (.values.autoscaling | default dict).enabled }}
  replicas: {{ .values.replicas | int }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "slipway.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "slipway.selector" . | nindent 8 }}
        app.kubernetes.io/part-of: slipway
        {{- with .root.Values.global.pods.labels }}{{ toYaml . | nindent 8 }}{{ end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .part }}
        prometheus.io/scrape: "true"
        prometheus.io/path: /metrics
        prometheus.io/port: {{ .probe.port | quote }}
        {{- with .annotations }}{{ . | nindent 8 }}{{ end }}
        {{- with merge dict (.values.podAnnotations | default dict) .root.Values.global.pods.annotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "slipway.pod" . | nindent 6 }}
{{- end }}

{{- define "slipway.pod" -}}
{{- $global := .root.Values.global -}}
serviceAccountName: {{ include "slipway.name" . }}
automountServiceAccountToken: {{ .account | default false }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ add ($global.drainSeconds | int) 25 }}
securityContext:
  {{- include "slipway.pod-security" $global.pods.runAsUser | nindent 2 }}
topologySpreadConstraints:
  {{- include "slipway.spread" . | nindent 2 }}
{{- with $global.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with $global.pods.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with merge dict (.values.nodeSelector | default dict) $global.pods.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat ($global.pods.tolerations) (.values.tolerations | default list) }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - {{- include "slipway.container" . | nindent 4 }}
volumes:
  {{- include "slipway.volumes" . | nindent 2 }}
{{- end -}}

{{- define "slipway.container" }}
name: {{ .part }}
image: {{ include "slipway.image" (dict "root" .root "image" .values.image) | quote }}
imagePullPolicy: {{ .root.Values.global.image.pullPolicy }}
securityContext:
  {{- include "slipway.container-security" . | nindent 2 }}
ports:
  {{- range .ports }}
  - {name: {{ .name }}, containerPort: {{ .port }}, protocol: TCP}
  {{- end }}
env:
  {{- include "slipway.env-common" (dict "root" .root "part" .part "hosts" (.values.ingress | default dict).hosts) | nindent 2 }}
  {{- .env | nindent 2 }}
  {{- range $name, $value := .values.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
# A service answers once Postgres does; until then, kubelet is not to restart it.
startupProbe:
  httpGet: {path: /healthz, port: {{ .probe.name }}}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 900
livenessProbe:
  httpGet: {path: /healthz, port: {{ .probe.name }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: {{ .probe.name }}}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
# Why it ended is in the status of the pod.
terminationMessagePolicy: FallbackToLogsOnError
resources:
  {{- toYaml .values.resources | nindent 2 }}
volumeMounts:
  - {name: temporary, mountPath: /tmp}
  {{- if and .token .root.Values.global.access.enabled }}
  - {name: token, mountPath: /var/run/slipway/token, readOnly: true}
  {{- end }}
  {{- if or .root.Values.global.authorities.configMap .root.Values.global.authorities.secret }}
  - {name: authorities, mountPath: /etc/slipway/authorities, readOnly: true}
  {{- end }}
  {{- with .mounts }}{{ . | nindent 2 }}{{ end }}
{{- end }}

{{- define "slipway.volumes" -}}
{{- $authorities := .root.Values.global.authorities -}}
- name: temporary
  emptyDir: {sizeLimit: 1Gi}
{{- if and .token .root.Values.global.access.enabled }}
- name: token
  secret:
    secretName: {{ include "slipway.tokens-secret" . | quote }}
    defaultMode: 0440
    items: [{key: {{ .token }}, path: token}]
{{- end }}
{{- if $authorities.configMap }}
- name: authorities
  configMap: {name: {{ $authorities.configMap | quote }}}
{{- else if $authorities.secret }}
- name: authorities
  secret: {secretName: {{ $authorities.secret | quote }}, items: [{key: {{ $authorities.key | quote }}, path: {{ $authorities.key | quote }}}]}
{{- end }}
{{- with .volumes }}
{{ . }}
{{- end }}
{{- end -}}

{{- define "slipway.cluster-service" }}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "slipway.name" . }}
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
  {{- with .values.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ .values.service.type }}
  selector:
    {{- include "slipway.selector" . | nindent 4 }}
  ports:
    {{- range .ports }}
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .name }}, protocol: TCP}
    {{- end }}
{{- end }}

{{- define "slipway.budget" }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "slipway.name" . }}
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "slipway.selector" . | nindent 6 }}
{{- end }}

{{- define "slipway.ingress" }}
{{- $ingress := .values.ingress | default dict }}
{{- if $ingress.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ include "slipway.name" . }}
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
  {{- with $ingress.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $ingress.className }}
  ingressClassName: {{ . | quote }}
  {{- end }}
  {{- with $ingress.tlsSecret }}
  tls:
    - secretName: {{ . | quote }}
      hosts: {{ toJson $ingress.hosts }}
  {{- end }}
  rules:
    {{- range $ingress.hosts }}
    - host: {{ . | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service: {name: {{ include "slipway.name" $ }}, port: {name: {{ (first $.ports).name }}}}
    {{- end }}
{{- end }}
{{- end }}
