{{- define "midstreamer.labels" -}}
{{ include "midstreamer.selector" . }}
app.kubernetes.io/name: midstreamer
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Metadata of an object: name, labels and annotations, including those that the values add. */ -}}
{{- define "midstreamer.metadata" -}}
name: {{ .name }}
labels:
  {{- include "midstreamer.labels" . | nindent 2 }}
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) (.root.Values.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "midstreamer.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "midstreamer.name" -}}
{{- /* The name of a pod may have 63 characters. It begins with the release name and ends with
       suffixes, of which StatefulSets add the longest. They leave 40 for the release. */ -}}
{{- if gt (len .root.Release.Name) 40 -}}
{{- fail (printf "release name %q has %d characters, but may have at most 40, because names of pods begin with it: choose a shorter name" .root.Release.Name (len .root.Release.Name)) -}}
{{- end -}}
{{ .root.Release.Name }}-{{ .component }}
{{- end -}}

{{- define "midstreamer.image" -}}
{{- $registry := .root.Values.image.registry -}}
{{- if $registry }}{{ trimSuffix "/" $registry }}/{{ else }}localhost/{{ end -}}
{{- $named := ternary .component "services" (has .component (list "agent" "postgres")) -}}
{{- with index .root.Values.image.digests $named -}}
{{ $.image }}@{{ . }}
{{- else -}}
{{ .image }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "midstreamer.domain" -}}
{{ .Release.Namespace }}.svc
{{- end -}}

{{- /* Address of sync. The name of the headless Service resolves to all pods of sync. */ -}}
{{- define "midstreamer.sync" -}}
{{ .Release.Name }}-sync.{{ include "midstreamer.domain" . }}:{{ .Values.sync.port }}
{{- end -}}

{{- define "midstreamer.postgresHost" -}}
{{ .Release.Name }}-postgres.{{ include "midstreamer.domain" . }}
{{- end -}}

{{- define "midstreamer.dsn" -}}
{{- if .Values.postgresql.enabled -}}
postgresql://midstreamer@{{ include "midstreamer.postgresHost" . }}/midstreamer?sslmode=verify-full
{{- else -}}
{{ .Values.postgresql.dsn }}{{ if include "midstreamer.databaseCa" . }}&sslrootcert=/etc/postgres-ca/{{ .Values.postgresql.ca.key }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "midstreamer.passwordSecret" -}}
{{- if .Values.postgresql.enabled -}}
{{ .Release.Name }}-postgres
{{- else -}}
{{ .Values.postgresql.existingSecret }}
{{- end -}}
{{- end -}}

{{- define "midstreamer.passwordVolume" -}}
- name: password
  secret:
    secretName: {{ include "midstreamer.passwordSecret" . }}
    defaultMode: 0440
    {{- if not .Values.postgresql.enabled }}
    items: [{key: {{ .Values.postgresql.existingSecretKey }}, path: password}]
    {{- end }}
{{- end -}}

{{- /* Volume source with the certificate authority of the user's own database; empty if none is set. */ -}}
{{- define "midstreamer.databaseCa" -}}
{{- $ca := .Values.postgresql.ca -}}
{{- if .Values.postgresql.enabled -}}
{{- else if $ca.secret -}}
secret: {secretName: {{ $ca.secret }}, defaultMode: 0440}
{{- else if $ca.configMap -}}
configMap: {name: {{ $ca.configMap }}}
{{- end -}}
{{- end -}}

{{- define "midstreamer.container" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Environment variables of every pod: its identity, its address, and its settings file. */ -}}
{{- define "midstreamer.environment" -}}
{{- with .root.Values.extraEnv }}
{{- toYaml . }}
{{ end -}}
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

{{- /* Metadata of the pods of one component. */ -}}
{{- define "midstreamer.podMetadata" -}}
labels:
  {{- include "midstreamer.labels" . | nindent 2 }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  {{- /* Pods read settings at start, so this hash of the settings restarts them after a change.
         The hash does not include the allowlist, because pods read it again while they run. */}}
  midstreamer.dev/settings: {{ include "midstreamer.settings" .root | sha256sum | trunc 16 }}
  {{- with .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "midstreamer.pod" -}}
serviceAccountName: {{ include "midstreamer.name" . }}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- include "midstreamer.placement" . }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    nodeTaintsPolicy: Honor
    labelSelector:
      matchLabels:
        {{- include "midstreamer.selector" . | nindent 8 }}
{{- end -}}

{{- /* Node selector, tolerations and affinity of a component's pods.
       The component's node selector and tolerations are added to those for all pods; its affinity
       replaces the affinity for all pods. The AgentPool adds the node selector and tolerations of
       agents, so the template of agents leaves these two out. */ -}}
{{- define "midstreamer.placement" -}}
{{- $all := .root.Values }}
{{- $own := index .root.Values (ternary "postgresql" .component (eq .component "postgres")) | default dict }}
{{- $beside := ternary (dict) $own (eq .component "agent") }}
{{- with merge (dict) ($beside.nodeSelector | default dict) ($all.nodeSelector | default dict) }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat ($all.tolerations | default list) ($beside.tolerations | default list) }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity | default $all.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
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
{{- with .root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "midstreamer.volumes" -}}
- name: config
  configMap: {name: {{ .root.Release.Name }}-config}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The file config.toml, with the settings of all processes. */ -}}
{{- define "midstreamer.settings" -}}
{{- $security := dict "key" "cluster" "release" .Release.Name "trust_domain" .Values.trustDomain "allowlist" "/etc/midstreamer/allowlist" }}
{{- $telemetry := dict "json_logs" true "listen" (printf "%s:%v" .Values.listenAddress .Values.healthPort) }}
{{- $made := dict "security" $security "telemetry" $telemetry }}
{{- mergeOverwrite $made (deepCopy .Values.config) | toToml }}
{{- end -}}

{{- /* Set the label `component` of targets, by which dashboards and rules select targets.
       Prometheus itself sets the labels job, namespace and pod. */ -}}
{{- define "midstreamer.relabelings" -}}
relabelings:
  - sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_component]
    targetLabel: component
{{- end -}}
