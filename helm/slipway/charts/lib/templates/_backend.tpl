{{/* A server for evaluation: one pod with a volume. Arguments: root, part, values, port, container (its own fields), paths
     (list of writable folders), data (path of the volume), and optionally volumes, mounts,
     annotations, private (whether only pods of the release may connect). */}}
{{- define "slipway.backend" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "slipway.name" . }}
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "slipway.name" . }}
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
spec:
  selector:
    {{- include "slipway.selector" . | nindent 4 }}
  ports:
    - {name: {{ .part }}, port: {{ .port }}, targetPort: {{ .part }}, protocol: TCP}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ include "slipway.name" . }}
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
spec:
  replicas: 1
  serviceName: {{ include "slipway.name" . }}
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
        {{- with .annotations }}{{ . | nindent 8 }}{{ end }}
        {{- with .root.Values.global.pods.annotations }}{{ toYaml . | nindent 8 }}{{ end }}
    spec:
      {{- include "slipway.backend-pod" . | nindent 6 }}
  {{- if .values.persistence.enabled }}
  # Kept when the release is uninstalled.
  volumeClaimTemplates:
    - metadata:
        name: data
        labels:
          {{- include "slipway.selector" . | nindent 10 }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .values.persistence.storageClass }}
        storageClassName: {{ . | quote }}
        {{- end }}
        resources: {requests: {storage: {{ .values.persistence.size }}}}
  {{- end }}
---
{{- include "slipway.backend-policy" . }}
{{- end -}}

{{- define "slipway.backend-pod" -}}
serviceAccountName: {{ include "slipway.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: 60
securityContext:
  {{- include "slipway.pod-security" .values.user | nindent 2 }}
{{- with .root.Values.global.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .root.Values.global.pods.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.global.pods.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ .part }}
    image: {{ include "slipway.image" (dict "root" .root "image" .values.image "own" true) | quote }}
    imagePullPolicy: {{ .root.Values.global.image.pullPolicy }}
    securityContext:
      {{- include "slipway.container-security" . | nindent 6 }}
    ports: [{name: {{ .part }}, containerPort: {{ .port }}, protocol: TCP}]
    {{- .container | nindent 4 }}
    terminationMessagePolicy: FallbackToLogsOnError
    resources:
      {{- toYaml .values.resources | nindent 6 }}
    volumeMounts:
      - {name: data, mountPath: {{ .data }}}
      {{- range $index, $path := .paths }}
      - {name: writable-{{ $index }}, mountPath: {{ $path }}}
      {{- end }}
      {{- with .mounts }}{{ . | nindent 6 }}{{ end }}
volumes:
  {{- if not .values.persistence.enabled }}
  - name: data
    emptyDir: {}
  {{- end }}
  {{- range $index, $path := .paths }}
  - name: writable-{{ $index }}
    emptyDir: {}
  {{- end }}
  {{- with .volumes }}{{ . | nindent 2 }}{{ end }}
{{- end -}}

{{- define "slipway.backend-policy" }}
{{- if .root.Values.global.networkPolicy.enabled }}
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
    - ports: [{port: {{ .port }}, protocol: TCP}]
      from:
        {{- include (ternary "slipway.own-peers" "slipway.peers" (.private | default false)) . | nindent 8 }}
  egress:
    - ports:
        - {port: 53, protocol: UDP}
        - {port: 53, protocol: TCP}
{{- end }}
{{- end }}
