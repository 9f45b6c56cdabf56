{{- /* A fleet needs cluster roles of its own, because signing requests are cluster-scoped.
       The names of the roles contain the fleet's namespace and release, so that fleets do not conflict.
       Reasons for each rule: docs/explanation/decisions/0018 and 0023. */ -}}
{{- define "midstreamer.signing" -}}
{{- $wide := printf "midstreamer:%s:%s" .namespace .release }}
{{- $accounts := list }}
{{- range list "coordinator" "agent" "sync" "postgres" }}
{{- $accounts = append $accounts (dict "kind" "ServiceAccount" "name" (printf "%s-%s" $.release .) "namespace" $.namespace) }}
{{- end }}
{{- $clients := list (dict "kind" "ServiceAccount" "name" (printf "%s-test" .release) "namespace" .namespace) }}
{{- range .clients }}
{{- $clients = append $clients (dict "apiGroup" "rbac.authorization.k8s.io" "kind" "Group" "name" (printf "system:serviceaccounts:%s" .)) }}
{{- end }}
{{- $operator := list (dict "kind" "ServiceAccount" "name" (printf "%s-operator" .release) "namespace" .namespace) }}
{{- $subjects := dict "operator" $operator "member" $accounts "client" $clients }}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $wide }}:operator
  {{- .metadata | nindent 2 }}
rules:
  - apiGroups: [certificates.k8s.io]
    resources: [certificatesigningrequests]
    verbs: [list, watch]
  - apiGroups: [certificates.k8s.io]
    resources: [certificatesigningrequests/approval, certificatesigningrequests/status]
    verbs: [update]
  - apiGroups: [certificates.k8s.io]
    resources: [signers]
    resourceNames:
      - midstreamer.dev/{{ .namespace }}.{{ .release }}.member
      - midstreamer.dev/{{ .namespace }}.{{ .release }}.client
    verbs: [approve, sign]
  {{- /* The operator certifies a client if a role permits it, or if the client's namespace has a
         label that permits it. So the operator reads namespaces, and asks the API server whether a
         requester may `use` a client identity. */}}
  - {apiGroups: [""], resources: [namespaces], verbs: [get]}
  - {apiGroups: [authorization.k8s.io], resources: [subjectaccessreviews], verbs: [create]}
{{- range list "member" "client" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $wide }}:{{ . }}
  {{- $.metadata | nindent 2 }}
rules:
  - apiGroups: [certificates.k8s.io]
    resources: [certificatesigningrequests]
    verbs: [create, watch]
{{- end }}
{{- range list "operator" "member" "client" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $wide }}:{{ . }}
  {{- $.metadata | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "{{ $wide }}:{{ . }}"}
subjects:
  {{- toYaml (get $subjects .) | nindent 2 }}
{{- end }}
{{- end -}}
