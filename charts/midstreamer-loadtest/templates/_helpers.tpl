{{- define "loadtest.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: loadtest
{{- end -}}

{{- /* Labels that select the pods of one part; `part` is master or worker. */ -}}
{{- define "loadtest.podSelector" -}}
{{ include "loadtest.selector" . }}
midstreamer.dev/part: {{ .part }}
{{- end -}}

{{- define "loadtest.labels" -}}
{{ include "loadtest.selector" . }}
app.kubernetes.io/name: midstreamer-loadtest
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "loadtest.metadata" -}}
name: {{ .name }}
labels:
  {{- include "loadtest.labels" . | nindent 2 }}
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* A Job cannot be changed, so each upgrade of the release creates Jobs with new names. */ -}}
{{- define "loadtest.job" -}}
{{- if gt (len .root.Release.Name) 40 -}}
{{- fail (printf "release name %q has %d characters, but may have at most 40, because names of pods begin with it: choose a shorter name" .root.Release.Name (len .root.Release.Name)) -}}
{{- end -}}
{{ .root.Release.Name }}-{{ .part }}-{{ .root.Release.Revision }}
{{- end -}}

{{- define "loadtest.image" -}}
{{- with .root.Values.image -}}
{{- if .registry }}{{ trimSuffix "/" .registry }}/{{ else }}localhost/{{ end -}}
{{- if .digest }}{{ .loadtest }}@{{ .digest }}{{ else }}{{ .loadtest }}:{{ .tag | default $.root.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* Command-line arguments that are the same for the master and the workers. */ -}}
{{- define "loadtest.arguments" -}}
- --namespace={{ .root.Values.fleet.namespace }}
- --release={{ .root.Values.fleet.release }}
- --trust-domain={{ .root.Values.fleet.trustDomain }}
- --port={{ .root.Values.fleet.port }}
- --workers={{ .root.Values.workers }}
- --shape={{ .root.Values.shape }}
{{- range $key := list "users" "rate" "seconds" "mix" }}
{{- with index $.root.Values $key }}
- {{ printf "--%s=%v" $key . | quote }}
{{- end }}
{{- end }}
- --seed={{ .root.Values.seed }}
- --budget={{ .root.Values.budgetSeconds }}
- --sdk={{ .root.Values.sdkPerSecond }}
{{- range .root.Values.thresholds }}
- {{ printf "--threshold=%s" . | quote }}
{{- end }}
{{- end -}}

{{- define "loadtest.pod" -}}
metadata:
  labels:
    {{- include "loadtest.labels" . | nindent 4 }}
    midstreamer.dev/part: {{ .part }}
    midstreamer.dev/run: {{ .root.Release.Revision | quote }}
    {{- with .root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .root.Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ .root.Release.Name }}
  automountServiceAccountToken: true
  enableServiceLinks: false
  restartPolicy: Never
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
  {{- with index $.root.Values $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  containers:
    - name: {{ .part }}
      image: {{ include "loadtest.image" . }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args:
        - {{ .part }}
        {{- include "loadtest.arguments" . | nindent 8 }}
        {{- toYaml .arguments | nindent 8 }}
      ports:
        - {{ toYaml .port | nindent 10 | trim }}
      resources:
        {{- toYaml (index .root.Values .part "resources") | nindent 8 }}
      securityContext:
        runAsNonRoot: true
        seccompProfile: {type: RuntimeDefault}
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
  volumes:
    {{- /* The folder is in memory, because the pod's processes share private keys there. */}}
    - name: tmp
      emptyDir: {medium: Memory, sizeLimit: 128Mi}
{{- end -}}
