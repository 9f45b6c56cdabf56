{{- define "midstreamer.labels" -}}
{{ include "midstreamer.selector" . }}
app.kubernetes.io/name: midstreamer
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- define "midstreamer.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "midstreamer.name" -}}
{{- /* The longest suffix is that of a StatefulSet's pod, and a pod's name is at most 63 long. */ -}}
{{- if gt (len .root.Release.Name) 40 -}}
{{- fail (printf "release name %q has %d characters; at most 40 leave room for the names of pods" .root.Release.Name (len .root.Release.Name)) -}}
{{- end -}}
{{ .root.Release.Name }}-{{ .component }}
{{- end -}}

{{- define "midstreamer.image" -}}
{{- $registry := .root.Values.images.registry -}}
{{- if $registry }}{{ trimSuffix "/" $registry }}/{{ else }}localhost/{{ end -}}
{{ .image }}:{{ .root.Values.images.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{- define "midstreamer.domain" -}}
{{ .Release.Namespace }}.svc
{{- end -}}

{{- /* Where sync listens: the name of a headless Service has all its pods. */ -}}
{{- define "midstreamer.sync" -}}
{{ .Release.Name }}-sync.{{ include "midstreamer.domain" . }}:{{ .Values.sync.port }}
{{- end -}}

{{- define "midstreamer.postgresHost" -}}
{{ .Release.Name }}-postgres.{{ include "midstreamer.domain" . }}
{{- end -}}

{{- define "midstreamer.dsn" -}}
{{- if .Values.postgres.enabled -}}
postgresql://midstreamer@{{ include "midstreamer.postgresHost" . }}/midstreamer?sslmode=verify-full
{{- else -}}
{{ required "postgres.enabled is false: postgres.dsn must name your server, postgresql://user@host/database?sslmode=verify-full" .Values.postgres.dsn }}
{{- end -}}
{{- end -}}

{{- define "midstreamer.passwordSecret" -}}
{{- if .Values.postgres.enabled -}}
{{ .Release.Name }}-postgres
{{- else -}}
{{ .Values.postgres.passwordSecret }}
{{- end -}}
{{- end -}}

{{- define "midstreamer.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* What every pod is told: who it is, and where it is. */ -}}
{{- define "midstreamer.environment" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: MIDSTREAMER_CONFIG
  value: /etc/midstreamer/config.toml
{{- end -}}

{{- define "midstreamer.identity" -}}
- name: MIDSTREAMER_{{ upper .component }}__ID
  value: $(POD_NAMESPACE)/$(POD_NAME)/$(POD_UID)
{{- end -}}

{{- /* The pods of one kind, but for their containers. */ -}}
{{- define "midstreamer.podMetadata" -}}
labels:
  {{- include "midstreamer.labels" . | nindent 2 }}
annotations:
  {{- /* Settings are read at the start, so a change of them starts pods again; the allowlist is not. */}}
  midstreamer.dev/settings: {{ include "midstreamer.settings" .root | sha256sum | trunc 16 }}
  {{- with .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "midstreamer.pod" -}}
serviceAccountName: {{ include "midstreamer.name" . }}
enableServiceLinks: false
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    nodeTaintsPolicy: Honor
    labelSelector:
      matchLabels:
        {{- include "midstreamer.selector" . | nindent 8 }}
{{- end -}}

{{- define "midstreamer.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 1
  failureThreshold: 120
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 1
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
{{- end -}}

{{- define "midstreamer.mounts" -}}
- {name: config, mountPath: /etc/midstreamer, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "midstreamer.volumes" -}}
- name: config
  configMap: {name: {{ .root.Release.Name }}-config}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- end -}}

{{- /* The settings of every process, as config.toml. */ -}}
{{- define "midstreamer.settings" -}}
{{- $security := dict "key" "cluster" "release" .Release.Name "trust_domain" .Values.trustDomain "allowlist" "/etc/midstreamer/allowlist" }}
{{- $telemetry := dict "json_logs" true "listen" (printf "%s:%v" .Values.listenAddress .Values.healthPort) }}
{{- $made := dict "security" $security "telemetry" $telemetry }}
{{- mergeOverwrite $made (deepCopy .Values.config) | toToml }}
{{- end -}}
